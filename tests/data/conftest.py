"""A small phantom, and a copy of it that a test may break."""

import os
from pathlib import Path

import pytest

from helpers.checking import SIZE
from pti.data.phantom import make_phantom


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """Ten patients with three pairs each."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, patients=10, slices=3, image_size=SIZE, seed=3)
    return folder


@pytest.fixture
def data(phantom, tmp_path) -> Path:
    """The phantom's files as links; `checking.replace` breaks one without touching the phantom."""
    for name in ("dente", "edente"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for path in (phantom / name).iterdir():
            os.link(path, tmp_path / "set" / name / path.name)
    return tmp_path / "set"
