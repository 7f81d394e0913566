"""What an export has written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Written:
    """Figures and files of an export.

    Attributes:
        figures: For the summary, by name.
        artefacts: Name -> file.
    """

    figures: Mapping[str, Any]
    artefacts: Mapping[str, Path]
