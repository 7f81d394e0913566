"""List the images and pairs of a data set by split, with the split of a checkpoint's training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import DataError, UsageError
from pti.data import resize, tif
from pti.data.dataset import samples_of
from pti.data.input_images import InputImage
from pti.data.layouts import SPLITS, CompletePair, Pair
from pti.data.patient_split import fold_of
from pti.data.splits import Folder, open_folders
from pti.runs.constructors import build
from pti.runs.exported import UNKNOWN_FOLDER


def images_of_split(data: Mapping[str, Any], split: str, source: str) -> list[InputImage]:
    """List the images of one split of a data set, sorted by name.

    Args:
        data: ``data`` of a checkpoint's configuration: root, layout, fractions, split_seed, val_root,
            test_root, folds, fold, and sources (``target``, ``condition``, or ``both``, which prefixes the
            names with ``dente/`` and ``edente/``).
        split: ``train``, ``val`` or ``test``.
        source: Where the configuration comes from, for messages.

    Raises:
        UsageError: An exported model doesn't know the folders of its training, and none is given.
        DataError: The data set can't be used, the split is empty or an image is missing.
    """
    images = [
        InputImage(sample.name, folder.pairs[sample.pair].files[sample.roles[0]], sample.patient)
        for folder in _folders(data, source)
        for sample in samples_of(folder.numbered(split), data["sources"])
    ]
    if not images:
        raise DataError(
            f"{Path(data['root']).absolute()}: its {split} split is empty. Choose another split, or set "
            "data.fractions or the root of that split."
        )
    return sorted(images, key=lambda image: image.name)


def pairs_of_split(data: Mapping[str, Any], split: str, source: str) -> list[Pair]:
    """List the complete pairs of one split of a data set, sorted by name; arguments as `images_of_split`.

    Raises:
        UsageError: An exported model doesn't know the folders of its training, and none is given.
        DataError: The data set can't be used.
    """
    pairs = [pair for folder in _folders(data, source) for _, pair in folder.numbered(split)]
    return sorted((pair for pair in pairs if len(pair.files) == 2), key=lambda pair: pair.name)


def read_squares(pairs: Sequence[Pair], role: str, size: int) -> np.ndarray:
    """Read the raw images of a role, ``condition`` or ``target``, as squares: (N, size, size) float32.

    Raises:
        TifError: A file can't be used.
    """
    return np.stack([resize.pad_and_resize(tif.read(pair.files[role]).pixels, size) for pair in pairs])


def complete_pairs(
    data: Mapping[str, Any], split: str, root: str | Path | None, source: str
) -> list[CompletePair]:
    """List the complete pairs of one split of a data set, sorted by name.

    Args:
        data: ``data`` of a checkpoint's configuration.
        split: ``train``, ``val`` or ``test``.
        root: Folder of the data set; None = that of the configuration.
        source: Where the configuration comes from, for messages.

    Raises:
        UsageError: The split does not exist, or the model was exported without the folder of its training.
        DataError: The data set can't be used.
    """
    if split not in SPLITS:
        raise UsageError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}.")
    if root is not None:
        data = {**data, "root": str(root), "val_root": None, "test_root": None}
    elif data["root"] == UNKNOWN_FOLDER:
        raise UsageError(
            f"{source}: exported without the folder of its training; pass the data set's as root."
        )
    return [
        CompletePair(pair.name, pair.patient, pair.condition, pair.target, split)
        for pair in pairs_of_split(data, split, source)
        if pair.condition and pair.target
    ]


def _folders(data: Mapping[str, Any], source: str) -> list[Folder]:
    unknown = [f"data.{key}" for key in ("root", "val_root", "test_root") if data.get(key) == UNKNOWN_FOLDER]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: {source} was exported without the folders of its training. Set "
            f"{' '.join(f'{key}=FOLDER' for key in unknown)}, or, where the command has it, input_dir=IMAGES."
        )
    extra_roots = {name: Path(data[f"{name}_root"]) for name in ("val", "test") if data.get(f"{name}_root")}
    layout: Any = build(data["layout"], source)
    root = Path(data["root"]).absolute()
    settings = (tuple(data["fractions"]), data["split_seed"], extra_roots, data.get("allow_links", False))
    return open_folders(root, layout, *settings, fold_of(data.get("folds"), data.get("fold", 0)))
