"""The images of the data set that a checkpoint was trained on, split as in its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.data.dataset import samples_of
from pti.data.input_images import InputImage
from pti.data.layouts import Pair
from pti.data.splits import Folder, open_folders
from pti.runs.checkpoint import build


def images_of_split(data: Mapping[str, Any], side: str, source: str) -> list[InputImage]:
    """The images of one side of a data set, sorted by name.

    Args:
        data: ``data`` of a checkpoint's configuration: root, layout, fractions, split_seed, val_root,
            test_root and sources (``target``, ``condition`` or ``both``: names with ``dente/``, ``edente/``).
        side: ``train``, ``val`` or ``test``.
        source: what the configuration comes from, for messages.

    Raises:
        DataError: the data set can't be used, the side is empty or an image is missing.
    """
    found = []
    for folder in _folders(data, source):
        for sample in samples_of(folder.numbered(side), data["sources"]):
            path = getattr(folder.pairs[sample.pair], sample.sides[0])
            found.append(InputImage(sample.name, path, sample.patient))
    if not found:
        fix = "Choose another split, or set data.fractions or the root of that side."
        raise DataError(f"{Path(data['root']).absolute()}: its {side} side is empty. {fix}")
    return sorted(found, key=lambda image: image.name)


def pairs_of_split(data: Mapping[str, Any], side: str, source: str) -> list[Pair]:
    """The complete pairs of one side of a data set, sorted by name; arguments as `images_of_split`.

    Raises:
        DataError: the data set can't be used.
    """
    pairs = [pair for folder in _folders(data, source) for _, pair in folder.numbered(side)]
    complete = [pair for pair in pairs if pair.condition is not None and pair.target is not None]
    return sorted(complete, key=lambda pair: pair.name)


def _folders(data: Mapping[str, Any], source: str) -> list[Folder]:
    own = {name: Path(data[f"{name}_root"]) for name in ("val", "test") if data.get(f"{name}_root")}
    layout: Any = build(data["layout"], source)
    root = Path(data["root"]).absolute()
    return open_folders(root, layout, tuple(data["fractions"]), data["split_seed"], own)
