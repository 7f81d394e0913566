"""The images of the data set that a checkpoint was trained on, split as in its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.checkpoint import build
from pti.data.dataset import samples_of
from pti.data.inputs import InputImage
from pti.data.sides import open_folders
from pti.errors import DataError


def images_of_side(data: Mapping[str, Any], side: str, source: str) -> list[InputImage]:
    """The images of one side of a data set, sorted by name.

    Args:
        data: ``data`` of a checkpoint's configuration: root, layout, fractions, split_seed, val_root,
            test_root and sources (``target``, ``condition`` or ``both``: names with ``dente/``, ``edente/``).
        side: ``train``, ``val`` or ``test``.
        source: what the configuration comes from, for messages.

    Raises:
        DataError: the data set can't be used, the side is empty or an image is missing.
    """
    own = {name: Path(data[f"{name}_root"]) for name in ("val", "test") if data.get(f"{name}_root")}
    layout: Any = build(data["layout"], source)
    root = Path(data["root"]).absolute()
    found = []
    for folder in open_folders(root, layout, tuple(data["fractions"]), data["split_seed"], own):
        for sample in samples_of(folder.numbered(side), data["sources"]):
            path = getattr(folder.pairs[sample.pair], sample.sides[0])
            found.append(InputImage(sample.name, path, sample.patient))
    if not found:
        fix = "Choose another split, or set data.fractions or the root of that side."
        raise DataError(f"{root}: its {side} side is empty. {fix}")
    return sorted(found, key=lambda image: image.name)
