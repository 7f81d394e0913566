"""Sizes of the bone in images on disk."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pti.common.progress import track
from pti.data import tif
from pti.metrics.bone_agreement import Bone, find_bone

_READERS = 4


def read_bone(file: Path, pixel_mm: float) -> tuple[Bone, bool]:
    """Read a raw image and measure the bone in it.

    Args:
        file: A TIF file.
        pixel_mm: Edge of a pixel in mm, if the file states none.

    Returns:
        The bone, and whether the file states the size of its pixels.

    Raises:
        TifError: The file can't be used.
    """
    image = tif.read(file)
    return find_bone(image.pixels, image.pixel_mm or pixel_mm), image.pixel_mm is not None


def bone_sizes(files: Sequence[Path], pixel_mm: float) -> dict[str, np.ndarray]:
    """Measure the bone in raw images.

    Args:
        files: TIF files.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.

    Returns:
        Measure, as in `pti.metrics.bone_agreement.Bone.lengths`, -> (N,) mm (area: mm²); NaN without bone.

    Raises:
        TifError: A file can't be used.
    """

    def lengths(file: Path) -> dict[str, float]:
        return read_bone(file, pixel_mm)[0].lengths

    with ThreadPoolExecutor(_READERS) as readers:
        rows = list(track(readers.map(lengths, files), "Measuring", total=len(files)))
    return {measure: np.array([row[measure] for row in rows]) for measure in rows[0]} if rows else {}


def mean_height_loss_mm(pairs: Sequence[tuple[Path, Path]], pixel_mm: float) -> float:
    """Compute the mean difference of the bone heights (condition − target) over pairs, mm.

    The dente height minus this is the simplest prediction of the edente height, the offset baseline.

    Args:
        pairs: (condition, target) files; at least one pair.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.

    Raises:
        TifError: A file can't be used.
    """
    files = [file for pair in pairs for file in pair]
    heights = np.nan_to_num(bone_sizes(files, pixel_mm)["height"]).tolist()
    losses = [condition - target for condition, target in zip(heights[::2], heights[1::2], strict=True)]
    return sum(losses) / len(losses)
