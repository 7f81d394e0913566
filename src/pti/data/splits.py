"""A data set's folders with the split (train, val or test) of each of their pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pti.common.errors import DataError
from pti.data.layouts import Layout, Pair, abbreviate, require_inside
from pti.data.patient_split import Fold, Fractions, fractions_of_root, splits_of

Item = TypeVar("Item")


@dataclass(frozen=True)
class Folder:
    """One data root.

    Attributes:
        root: The folder.
        pairs: All its pairs, in the order of the layout.
        splits: Split of each pair: ``train``, ``val`` or ``test``.
    """

    root: Path
    pairs: list[Pair]
    splits: list[str]

    def numbered(self, split: str) -> list[tuple[int, Pair]]:
        """Return the pairs of a split with their indices in `pairs`."""
        return [(index, pair) for index, pair in enumerate(self.pairs) if self.splits[index] == split]


def evenly_spaced(items: list[Item], count: int | None) -> list[Item]:
    """Return ``count`` items at even distances (neighbours often show one patient), or all if it is None."""
    if count is None or count >= len(items):
        return items
    return [items[index * len(items) // count] for index in range(count)]


def open_folders(
    root: Path,
    layout: Layout,
    fractions: Fractions,
    split_seed: int,
    extra_roots: Mapping[str, Path],
    allow_links: bool = False,
    fold: Fold | None = None,
) -> list[Folder]:
    """List a data set and assign its pairs to splits, without opening an image.

    Args:
        root: Folder of the data set.
        layout: Function that lists the pairs of a root.
        fractions: Shares of patients for train, val and test. The share of a split with a separate root
            goes to the others.
        split_seed: Seed of `pti.data.patient_split.split_patients`.
        extra_roots: ``val`` or ``test`` -> separate data set for this split.
        allow_links: Accept links that lead out of a root.
        fold: Fold of a cross-validation, which replaces ``fractions``; None = none.

    Returns:
        The root's folder, followed by one for each extra root.

    Raises:
        UsageError: The fractions are not valid shares, or there are folds and separate roots.
        DataError: A folder is missing or empty, a file lies outside its root, a patient is in two splits, a
            name lacks a patient, or there are fewer patients than splits.
    """
    shares = fractions_of_root(fractions, extra_roots, fold)
    folders: list[Folder] = []
    seen: dict[str, str] = {}
    for folder, own_split in [(root, None), *((extra, split) for split, extra in extra_roots.items())]:
        pairs = [replace(pair, split=own_split or pair.split) for pair in layout(folder)]
        if not pairs:
            fix = "Set data.root to the data set, or choose the data/layout that describes it."
            raise DataError(f"{folder}: no images found (.tif, .tiff). {fix}")
        require_inside(folder, pairs, allow_links)
        folders.append(Folder(folder, pairs, splits_of(pairs, split_seed, shares, fold)))
        splits = dict(zip((pair.patient for pair in pairs), folders[-1].splits, strict=True))
        if shared := sorted(name for name, split in splits.items() if seen.get(name, split) != split):
            raise DataError(
                f"{folder}: patients in the split {splits[shared[0]]} here and in {seen[shared[0]]} of "
                f"another root: {abbreviate(shared)}. Keep all images of a patient in one data set."
            )
        seen |= splits
    return folders
