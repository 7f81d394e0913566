"""Order of the tests, and tiny data sets that they share."""

import os

# The tests run side by side, one a core. Two threads on a busy core are many times slower than one.
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path
from typing import Any

import pytest

from helpers import composed_once
from helpers.image_sets import WriteSet, disc
from pti.data import tif

composed_once.install()
TESTS = Path(__file__).parent
LONGEST = (
    *("faults/test_random_kills.py", "faults/test_mutations.py", "benchmark/test_benchmark.py"),
    *(
        "train/test_resume.py",
        "train/test_ddp.py",
        "train/test_faults_train.py",
        "modules/test_no_waiting.py",
    ),
    *(
        "cli/test_path_values.py",
        "test_recipes.py",
        "test_readme_commands.py",
        "modules/test_vae_switches.py",
    ),
    *("train/test_ddp_ldm.py", "train/test_cluster_scripts.py", "train/test_train.py", "tune/test_tune.py"),
    *("evaluate/test_evaluate.py", "sweep/test_sweep.py", "explore/test_explore.py", "faults/test_fuzz.py"),
    *("test_readme.py", "cli/test_advice.py", "modules/test_latent_diffusion.py", "train/test_requeue.py"),
)
"""Files that take longest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tests/faults", "more and other cases of tests/faults")
    group.addoption("--kills", type=int, default=40, help="number of times that training is killed")
    group.addoption("--kill-seed", type=int, default=0, help="seed of the moments")
    group.addoption("--fuzz", type=int, default=1000, help="number of damaged files of each kind")
    group.addoption("--fuzz-seed", type=int, default=0, help="seed of the damage")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest files: one that starts last would run alone, beside an idle process.

    A process of pytest-xdist runs whole files, in this order (``--no-loadscope-reorder``).
    """
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Write pairs in the design's layout: ``write_set(patients=3, slices=2, size=32, root=…)``."""

    def write(patients: int = 3, slices: int = 2, size: int = 32, root: Path = tmp_path / "set") -> Path:
        for number, folder in enumerate(("dente", "edente")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for patient in range(patients):
                for position in range(slices):
                    name = f"{position:03d}_HA_2021_02_{patient:03d}.tif"
                    seed = (number * 1000 + patient) * 1000 + position
                    tif.write(root / folder / name, disc(seed, size), pixel_mm=0.15)
        return root

    return write


@pytest.fixture
def paired_set(write_set: WriteSet) -> Path:
    """Six patients with three pairs each, 32 x 32."""
    return write_set(patients=6, slices=3)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients of the phantom, one pair each, 64 x 64."""
    from pti.data.phantom import make_phantom

    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=8, slices=1, image_size=64, seed=1)
    return root


@pytest.fixture(scope="module")
def phantom_24(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four patients of the phantom, one pair each, 64 x 64: enough for all splits."""
    from pti.data.phantom import make_phantom

    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=24, slices=1, image_size=64, seed=1)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set to train on."""
    from helpers.training_setup import make_images

    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def autoencoder(root: Path) -> Path:
    """A checkpoint of the first stage, trained on nothing."""
    from helpers.second_stage_setup import save_autoencoder

    return save_autoencoder(root, root.parent / "stage_1" / "best.ckpt")


@pytest.fixture(scope="module")
def link(autoencoder: Path) -> str:
    """The override that names it."""
    return f"autoencoder_ckpt={autoencoder}"


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omit ``curves.png`` at the end of trainings: drawing it takes longer than a tiny training itself."""
    monkeypatch.setattr("pti.train.console.draw_curves", lambda rows, path: None)


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots of pages empty: their layout takes longer than the rest of a command on tiny data."""
    from matplotlib.figure import Figure

    class Unrendered(Figure):
        def savefig(self, fname: Any, **_: Any) -> None:
            fname.write('<svg width="1" height="1"></svg>')

    monkeypatch.setattr("pti.drawing.themed_svg.Figure", Unrendered)
