"""Faults that whole commands survive, where no test of a single part shows it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pti
from helpers import forks, second_stage_setup, training_setup
from helpers.resumed_runs import assert_equal
from helpers.training_setup import arguments, environment, make_images, run, start
from pti.cli.overrides import check_command_line
from pti.common.errors import DataError, UsageError
from pti.runs.checkpoint import CheckpointError, read
from pti.train.run import train

OUTSIDE = "pti.train.callbacks.checkpoint_io.AtomicCheckpointIO.remove_checkpoint"


@pytest.mark.parametrize("nested", [False, True], ids=["the model", "a part of it"])
@pytest.mark.parametrize("opened_by", ["pti.load", "ckpt_path", "autoencoder_ckpt"])
def test_a_checkpoint_cannot_act(root: Path, autoencoder: Path, tmp_path: Path, opened_by: str, nested: bool):
    victim, path = tmp_path / "victim", tmp_path / "evil.ckpt"
    victim.touch()
    content = torch.load(autoencoder, weights_only=True)
    config = content["config"]["model"] if nested else content["config"]
    config["autoencoder" if nested else "model"] = {"_target_": OUTSIDE, "self": None, "path": str(victim)}
    torch.save(content, path)
    setup = second_stage_setup if opened_by == "autoencoder_ckpt" else training_setup
    settings = () if opened_by == "pti.load" else (f"{opened_by}='{path}'",)
    config = setup.configuration(root, tmp_path / "run", *settings)
    with pytest.raises((CheckpointError, UsageError)):
        train(config, tmp_path / "run") if settings else pti.load(path)
    assert victim.exists()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.bach_size=3", "data.bach_size: there is no such key. Did you mean data.batch_size?"),
        ("data.batch_size=many", "data.batch_size='many': expected a whole number"),
        ("experiment=vae_dmo", "experiment=vae_dmo: there is no such option. Did you mean vae_demo?"),
    ],
)
def test_a_mistake_ends_the_training_with_exit_2(tmp_path: Path, override: str, named: str):
    code, output = forks.run(tmp_path, "experiment=smoke", override)
    assert code == 2, output
    assert output.startswith(f"Error: {named}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", ["train", "check", "translate", "reconstruct", "evaluate", "make_phantom"]
)
def test_an_output_folder_that_cannot_be_created(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    """Like a read-only working directory, which would not stop a test that runs as root."""
    (tmp_path / "outputs").touch()
    (tmp_path / "data").touch()  # of make_phantom
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"can't be created.*output_dir"):
        check_command_line(command, [])


@pytest.mark.slow
def test_a_full_disk_ends_the_check(root: Path, tmp_path: Path):
    program = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "import pti.check.__main__\npti.check.__main__.main()\n"
    )
    settings = (f"data.root={root}", "data.batch_size=4", "workers=1", "output_dir=out")
    with start(tmp_path, *settings, program=["-c", program]) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "the disk is full (File too large; " in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_valid_utf8_in_an_ascii_terminal(tmp_path: Path):
    root = make_images(tmp_path / "images")
    name = next((root / "dente").iterdir()).name
    for folder in ("dente", "edente"):
        (root / folder / name).rename(root / folder / os.fsdecode(name.encode().replace(b"HA", b"H\xe4")))
    for verb, settings in (
        ("check", (f"data.root={root}", "data.batch_size=4", "workers=1", "output_dir=checked")),
        ("train", arguments(root, "trainer.max_epochs=1", "output_dir=run")),
    ):
        command = [sys.executable, "-m", f"pti.{verb}", *settings]
        variables = environment(PYTHONIOENCODING="ascii")
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (done.stdout + done.stderr).isascii()
    assert (tmp_path / "checked" / "check.html").is_file()
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["batches_done"] == 6


@pytest.mark.slow
def test_a_kill_between_two_savers(root: Path, tmp_path: Path):
    """best.ckpt is of the second epoch, last.ckpt still of the first."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert forks.run(whole, *arguments(root, "output_dir=run"))[0] == 0
    program = (
        "import os, signal\nfrom lightning import Trainer\nsave, saved = Trainer.save_checkpoint, []\n"
        "def save_and_die(self, path, *rest, **named):\n"
        "    save(self, path, *rest, **named)\n"
        "    saved.append(path.stem)\n"
        "    if saved == ['best', 'last', 'best']: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Trainer.save_checkpoint = save_and_die\n"
        "import pti.train.__main__\npti.train.__main__.main()\n"
    )
    with start(cut, *arguments(root, "output_dir=run"), program=["-c", program]) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    epochs = {name: read(cut / "run" / "checkpoints" / f"{name}.ckpt")["epoch"] for name in ("last", "best")}
    assert epochs == {"last": 0, "best": 1}
    code, output = run(cut, *arguments(root, "output_dir=run", "ckpt_path=run/checkpoints/last.ckpt"))
    assert code == 0, output
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (read(folder / "run" / "checkpoints" / name) for folder in (whole, cut))
        for part in ("state_dict", "optimizer_states", "rng", "loops"):
            assert_equal(one[part], other[part], part)
