"""Description of the data set to check: its folders, layout and split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pti.data.layouts import Layout
from pti.data.patient_split import Fold, Fractions


@dataclass(frozen=True)
class DataSource:
    """Location and split of a data set; the keys of the ``data`` configuration.

    Attributes:
        root: data folder; findings name files relative to it.
        layout: function that lists the pairs of a folder.
        fractions: shares of the patients for train, val and test.
        split_seed: seed of the split by patient.
        pixel_mm: expected pixel size in millimetres, used for files that state none; None expects
            nothing.
        extra_roots: ``val`` or ``test`` -> separate folder for this split.
        batch_size: samples of a batch on each device.
        devices: number of devices that train.
        sources: images that make a sample, as in `samples_of`.
        subset: number of pairs of each split to train on; None = all.
        allow_links: accept links that lead out of the data root.
        fold: fold of a cross-validation, which replaces ``fractions``; None = none.
    """

    root: Path
    layout: Layout
    fractions: Fractions = (0.8, 0.1, 0.1)
    split_seed: int = 0
    pixel_mm: float | None = None
    extra_roots: Mapping[str, Path] = field(default_factory=dict)
    batch_size: int = 1
    devices: int = 1
    sources: str = "pairs"
    subset: int | None = None
    allow_links: bool = False
    fold: Fold | None = None
