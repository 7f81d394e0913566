"""What the tests of second-stage modules share."""

from pathlib import Path

import pytest

from second_stage_setup import save_autoencoder
from training_setup import make_images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def autoencoder(root: Path) -> Path:
    """A checkpoint of the first stage, trained on nothing."""
    return save_autoencoder(root, root.parent / "stage_1" / "best.ckpt")
