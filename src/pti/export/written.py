"""What an export has written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Written:
    """Figures and files of an export.

    Attributes:
        figures: For the summary, by name.
        artefacts: Name -> file.
        for_card: Values that the section on use of the model card needs.
    """

    figures: Mapping[str, Any]
    artefacts: Mapping[str, Path]
    for_card: Mapping[str, Any] = field(default_factory=dict)
