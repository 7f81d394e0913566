"""What the tests of the checks share."""

from pathlib import Path

import numpy as np

from pti.check.full_check import DataSource, Report, full_check
from pti.data import tif
from pti.data.checks.findings import Finding
from pti.data.layouts import paired_folders

SIZE = 128


def source(root: Path, layout=paired_folders, **settings) -> DataSource:
    return DataSource(root, layout, (0.6, 0.2, 0.2), **settings)


def check(root: Path, **settings) -> Report:
    return full_check(source(root, **settings), workers=1)


def found(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(finding.severity, finding.fault, finding.file) for finding in findings}


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "dente").iterdir())


def replace(path: Path, pixels: np.ndarray, pixel_mm: float | None = 0.3) -> None:
    """Write anew; the files of `data` are links to the shared phantom, which must stay as it is."""
    path.unlink()
    tif.write(path, pixels, pixel_mm)
