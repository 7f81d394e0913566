"""A data set's folders with the side (train, val, test) of each of their pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pti.common.errors import DataError
from pti.data.dataset import Sample
from pti.data.image_cache import FileImages
from pti.data.layouts import SPLITS, Layout, Pair, abbreviate, require_inside
from pti.data.patient_split import splits_of

Item = TypeVar("Item")


@dataclass(frozen=True)
class Folder:
    """One root, its pairs and, for each pair, its side.

    Attributes:
        root: the folder.
        pairs: all its pairs, in the layout's order.
        sides: ``train``, ``val`` or ``test`` for each pair.
    """

    root: Path
    pairs: list[Pair]
    sides: list[str]

    def numbered(self, side: str) -> list[tuple[int, Pair]]:
        """The pairs of a side with their index in `pairs`."""
        return [(index, pair) for index, pair in enumerate(self.pairs) if self.sides[index] == side]


@dataclass(frozen=True)
class Split:
    """What one side (train, val, test) serves."""

    images: FileImages
    samples: list[Sample]

    def counts(self) -> dict[str, int]:
        """Patients and images (files)."""
        patients = {sample.patient for sample in self.samples}
        return {"patients": len(patients), "images": sum(len(sample.sides) for sample in self.samples)}

    def raw_images(self) -> Iterator[np.ndarray]:
        """Raw images (image_size, image_size), one after the other."""
        for sample in self.samples:
            for side in sample.sides:
                yield getattr(self.images, side)(sample.pair)


def evenly_spaced(items: list[Item], count: int | None) -> list[Item]:
    """``count`` items spread over the list (neighbours often show one patient); all for None."""
    if count is None or count >= len(items):
        return items
    return [items[index * len(items) // count] for index in range(count)]


def open_folders(
    root: Path,
    layout: Layout,
    fractions: tuple[float, float, float],
    split_seed: int,
    extra_roots: Mapping[str, Path],
) -> list[Folder]:
    """List a data set and decide who stands where; opens no image.

    Args:
        root: the data set.
        layout: root -> pairs.
        fractions: shares of patients for train, val and test. The share of a side with a root of its own goes
        to
            the others.
        split_seed: of `pti.data.patient_split.split_patients`.
        extra_roots: ``val`` or ``test`` -> a data set of its own for that side.

    Raises:
        UsageError: the fractions are no shares.
        DataError: a folder is missing or empty, a file lies outside its root, a patient stands on two sides,
        a
            name has no patient, or there are fewer patients than sides.
    """
    shares = [0.0 if side in extra_roots else share for side, share in zip(SPLITS, fractions, strict=True)]
    total = (sum(shares) or 1.0) if extra_roots else 1.0
    pairs = _listed(root, layout)
    train, val, test = (share / total for share in shares)
    sides = splits_of(pairs, split_seed, (train, val, test))
    folders = [Folder(root, pairs, sides)]
    for side, extra in extra_roots.items():
        own = [replace(pair, split=side) for pair in _listed(extra, layout)]
        folders.append(Folder(extra, own, splits_of(own, split_seed, fractions)))
    _refuse_shared_patients(folders)
    return folders


def _listed(root: Path, layout: Layout) -> list[Pair]:
    pairs = layout(root)
    if not pairs:
        fix = "Set data.root to the data set, or data.layout to what it looks like."
        raise DataError(f"{root}: no images found (.tif, .tiff). {fix}")
    require_inside(root, pairs)
    return pairs


def _refuse_shared_patients(folders: list[Folder]) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        sides = dict(zip((pair.patient for pair in folder.pairs), folder.sides, strict=True))
        if shared := sorted(patient for patient, side in sides.items() if seen.get(patient, side) != side):
            found = f"{abbreviate(shared)}: patients that stand on the side {sides[shared[0]]} here"
            fix = "Keep each patient's images in one data set."
            raise DataError(
                f"{folder.root}: {found} and on the side {seen[shared[0]]} of another root. {fix}"
            )
        seen |= sides
