"""Data sets and shorthands for the tests of the checks."""

import os
from pathlib import Path

import numpy as np
import pytest

from pti.check.full_check import Report, full_check
from pti.data import tif
from pti.data.checks.findings import Finding
from pti.data.checks.source import DataSource
from pti.data.layouts import paired_folders
from pti.data.phantom import make_phantom

SIZE = 128


def source(root: Path, layout=paired_folders, **settings) -> DataSource:
    return DataSource(root, layout, (0.6, 0.2, 0.2), **settings)


def check(root: Path, **settings) -> Report:
    return full_check(source(root, **settings), workers=1)


def faults(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(finding.severity, finding.fault, finding.file) for finding in findings}


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "dente").iterdir())


def replace(path: Path, pixels: np.ndarray, pixel_mm: float | None = 0.3) -> None:
    """Replace a file of `data`, a link to the shared phantom, without changing the phantom."""
    path.unlink()
    tif.write(path, pixels, pixel_mm)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """Write a phantom of ten patients with three pairs each."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, patients=10, slices=3, image_size=SIZE, seed=3)
    return folder


@pytest.fixture
def data(phantom, tmp_path) -> Path:
    """Link the phantom's files; `checking.replace` breaks one without changing the phantom."""
    for name in ("dente", "edente"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for path in (phantom / name).iterdir():
            os.link(path, tmp_path / "set" / name / path.name)
    return tmp_path / "set"
