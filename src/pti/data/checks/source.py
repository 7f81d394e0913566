"""Description of the data set to check: its folders, layout and split."""

from dataclasses import dataclass
from pathlib import Path

from pti.data.layouts import Layout
from pti.data.patient_split import fractions_of_root


@dataclass(frozen=True)
class DataSource:
    """Location and split of a data set; the keys of the ``data`` configuration.

    Attributes:
        root: data folder; findings name files relative to it.
        layout: function that lists the pairs of a folder.
        fractions: shares of the patients for train, val and test.
        split_seed: seed of the split by patient.
        pixel_mm: expected pixel size in millimetres, used for files without a resolution tag; None expects
            nothing.
        val_root: separate folder for validation, if any.
        test_root: separate folder for testing, if any.
        batch_size: smallest acceptable number of training pairs.
    """

    root: Path
    layout: Layout
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    pixel_mm: float | None = None
    val_root: Path | None = None
    test_root: Path | None = None
    batch_size: int = 1

    @property
    def split_roots(self) -> dict[str, Path]:
        """Map each split that has a separate folder to this folder."""
        roots = {"val": self.val_root, "test": self.test_root}
        return {split: folder for split, folder in roots.items() if folder is not None}

    def folders(self) -> list[tuple[Path, str | None]]:
        """List each folder with the split that it determines; None for the root."""
        return [(self.root, None), *((folder, split) for split, folder in self.split_roots.items())]

    def root_fractions(self) -> tuple[float, float, float]:
        """Split fractions within the root: splits with a separate folder get 0, the others share the rest."""
        return fractions_of_root(self.fractions, self.split_roots)
