"""Every command in the README works: as written, in its order, on a small phantom."""

import copy
import functools
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from helpers.in_process import run_command
from helpers.readme_text import README, blocks, commands, verb_and_arguments
from helpers.serving import served
from pti.__main__ import main as console_script
from pti.data import tif
from pti.data.phantom import make_phantom
from pti.demo.chapters import Chapter

NOT_RUN = {
    'python -m pip install --editable ".[dev]"': ".ci/run installs with it",
    'pip install "pti[explore]"': "contained in the former",
    'pip install "pti[tune]"': "contained in the former",
    "make demo": "python -m pti.demo, which is run here, in a new environment",
    "python -m pytest": ".ci/run runs it",
    "python -m pytest -m slow": "runs this test",
    "make test": "python -m pytest in a new environment",
    ".ci/run": "runs this test",
    "python -m pti.VERB key=value …": "a placeholder for any command",
    "pti VERB key=value …": "a placeholder for any command: test_the_console_script_accepts_them_too",
}

NETWORK = [
    "model.network.channels=[4,4,8,8]",
    "model.network.num_res_blocks=1",
    "model.network.num_head_channels=4",
    "model.network.norm_num_groups=2",
    "model.validation_images=2",
]
AUTOENCODER = [
    "model.autoencoder.channels=[4,4,8]",
    "model.autoencoder.num_res_blocks=1",
    "model.autoencoder.norm_num_groups=2",
    "model.discriminator.channels=4",
    "model.disc_start=0",
]
SHORT = [
    "data.image_size=64",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.accelerator=cpu",
]
SMALLER = {  # beginning of a command -> settings appended to it
    "demo": ["minutes=1", "samples=2", "data.root=DATA"],
    "train": SHORT,
    "train experiment=vae_baseline": AUTOENCODER,
    "tune": [*SHORT, *AUTOENCODER, "trials=1"],
    "train experiment=ldm_baseline": [
        *NETWORK,
        "model.network.cross_attention_dim=8",
        "model.sampling_steps=2",
    ],
    "train experiment=regression": NETWORK,
    "benchmark": ["suite=data", "images=8", "repeats=1"],  # tests/benchmark runs all suites
    "analyze": ["dpi=72", "atlas_methods=[]"],
    "explore": ["method=pca", "methods=[pca]"],
}
PROMISED = [
    "demo/*/index.html",
    "check/*/check.html",
    "check/*/check.csv",
    "vae_baseline/*/checkpoints/best.ckpt",
    "vae_baseline/*/metrics.csv",
    "vae_baseline/*/images/*.png",
    "vae_baseline/*/tensorboard/events*",
    "ldm_baseline/*/checkpoints/best.ckpt",
    "regression/*/checkpoints/best.ckpt",
    "translate/*/manifest.csv",
    "translate/*/mean/*.tif",
    "evaluate/*/report.html",
    "reconstruct/*/metrics.csv",
    "measure/*/measures.csv",
    "vae_baseline/tune/*/tune.html",
    "vae_baseline/tune/*/experiment/vae_baseline_tuned.yaml",
    "analyze/*/projection.html",
]


# Each command once, in the README's order: (as typed, verb, arguments).
LINES = [line for line in dict.fromkeys(commands(README)) if line not in NOT_RUN]
TYPED = [(line, *parsed) for line in LINES if (parsed := verb_and_arguments(line))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create the working directory, with DATA and PREDICTIONS that differ slightly from the targets."""
    make_phantom(tmp_path / "DATA", patients=12, slices=1, image_size=64)
    (tmp_path / "PREDICTIONS").mkdir()
    for path in (tmp_path / "DATA" / "edente").glob("*.tif"):
        image = tif.read(path)
        tif.write(tmp_path / "PREDICTIONS" / path.name, np.roll(image.pixels, 1, 0), image.pixel_mm)
    return tmp_path


def test_every_command_is_run_or_exempt():
    unknown = [line for line in LINES if verb_and_arguments(line) is None]
    assert unknown == [], "neither a pti command nor in NOT_RUN"
    assert set(NOT_RUN) <= set(commands(README))
    for program in ("python -m pti.", "python -m pytest", "pip install"):
        assert README.count(program) == sum(program in line for line in commands(README))
    assert len(TYPED) >= 12


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_every_command_works_in_order(folder, monkeypatch):
    monkeypatch.setattr("pti.demo.runner.run_chapter", run_chapter)
    for line, verb, arguments in TYPED:
        try:
            run(verb, arguments, folder)
        except (AssertionError, pytest.fail.Exception) as error:
            pytest.fail(f"README.md: {line}\n{error}")
    check_python(folder)
    for pattern in PROMISED:
        assert list((folder / "outputs").glob(pattern)), pattern


def run(verb: str, arguments: list[str], folder: Path) -> None:
    """Run one command, made smaller; it must succeed and write a summary to outputs."""
    begins = f"{verb} {' '.join(arguments)} "
    smaller = [text for start, more in SMALLER.items() if begins.startswith(f"{start} ") for text in more]
    before = set(folder.glob("outputs/**/summary.json"))
    if verb == "explore":
        with served(folder, *arguments, *smaller) as (address, _), urlopen(address, timeout=20) as response:
            assert response.status == 200
    else:
        run_command(program(verb), folder, *arguments, *smaller)
    assert set(folder.glob("outputs/**/summary.json")) - before, "no new summary.json in outputs"


def program(verb: str) -> Callable:
    """Return the function that runs ``python -m pti.VERB``."""
    return functools.partial(runpy.run_module, f"pti.{verb}", run_name="__main__")


def run_chapter(chapter: Chapter, folder: Path, log: Path, show: Callable) -> int:
    """Replace the demo's function, which starts a process for each command."""
    outer = copy.deepcopy(Singleton.get_state())  # Hydra runs one command at a time
    GlobalHydra.instance().clear()
    run_command(program(chapter.verb), Path.cwd(), *chapter.command(folder)[3:])
    Singleton.set_state(outer)
    return 0


def check_python(folder: Path) -> None:
    """Run the README's Python block, in which ``dente`` is an image."""
    (block,) = blocks(README, "python")
    dente = tif.read(next((folder / "DATA" / "dente").glob("*.tif"))).pixels
    names: dict[str, Any] = {"dente": dente}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(block, names)
    finally:
        os.chdir(before)
    assert names["samples"].shape == (8, *dente.shape)
    assert names["latents"].shape[0] == 1
    assert names["model"].decode(names["latents"]).shape[0] == 1
    assert names["model"].reconstruct(dente).shape == dente.shape


@pytest.mark.parametrize(("line", "verb", "arguments"), TYPED)
def test_the_console_script_accepts_them_too(tmp_path, line, verb, arguments):
    done = run_command(console_script, tmp_path, verb, *arguments, "--cfg", "job")
    assert "output_dir:" in done.stdout


@pytest.mark.parametrize(
    ("line", "verb", "arguments"), [row for row in TYPED if row[1] in ("check", "train")]
)
def test_check_and_train_generate_the_phantom_instead(tmp_path, line, verb, arguments):
    assert "data.root=DATA" in arguments
    instead = [text.replace("data.root=DATA", "data=phantom") for text in arguments]
    done = run_command(console_script, tmp_path, verb, *instead, "--cfg", "job")
    assert "root: outputs/phantom" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted({verb for _, verb, _ in TYPED}))
def test_lists_its_keys(tmp_path, verb):
    assert "output_dir:" in run_command(console_script, tmp_path, verb, "--help").stdout
