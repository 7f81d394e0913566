"""An interrupted and resumed run of stage 2 is bit-identical to an uninterrupted one."""

import signal
from pathlib import Path

import pytest

from helpers import forks
from helpers.resumed_runs import assert_equal, assert_same_run, assert_steps_rise, stop_after
from helpers.second_stage_setup import arguments, configuration, recorded_pairs
from helpers.training_setup import run, start, trouble
from pti.runs.checkpoint import read
from pti.train.callbacks.metrics_csv import read_metrics
from pti.train.run import train

pytestmark = pytest.mark.slow

SETTINGS = ("trainer.log_every_n_steps=1", "data/augmentation=mild", "model.latent_views=2")
VARIANTS = {
    "cache": (),
    "no cache": ("model.cache_latents=false",),
    "views repeat": ("trainer.max_epochs=3", "model.condition_dropout=0.2"),
    "accumulation": ("model.accumulate_grad_batches=3", "model.path.spacing=even"),
    "workers": ("data.num_workers=2",),
}
CUTS = {
    "mid-epoch": ("on_train_batch_end", 2),
    "in validation": ("on_validation_batch_end", 1),
    "end of an epoch": ("on_train_epoch_end", 1),
}
CASES = [
    pytest.param(*CUTS[cut], VARIANTS[variant], id=f"{variant}: {cut}")
    for variant in VARIANTS
    for cut in CUTS
]


@pytest.fixture(scope="module")
def uninterrupted() -> dict[tuple[str, ...], Path]:
    """Collect finished runs by their overrides."""
    return {}


@pytest.mark.parametrize(("hook", "count", "overrides"), CASES)
def test_interrupted_run_ends_like_an_uninterrupted_one(
    root, link, uninterrupted, tmp_path_factory, tmp_path, monkeypatch, overrides, hook, count
):
    settings = (link, *SETTINGS, *overrides)
    if overrides not in uninterrupted:
        whole = tmp_path_factory.mktemp("whole")
        assert train(configuration(root, whole, *settings), whole) == 0
        uninterrupted[overrides] = whole
    with monkeypatch.context() as patch:
        stop_after(patch, hook, count)
        assert train(configuration(root, tmp_path, *settings), tmp_path) == 143
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert train(configuration(root, tmp_path, *settings, f"ckpt_path='{last}'"), tmp_path) == 0
    assert_same_run(tmp_path, uninterrupted[overrides])
    assert_steps_rise(tmp_path)
    state = read(last)["state_dict"]
    changed = [name for name, value in state.items() if name.startswith("ema.model.") and value.any()]
    assert changed  # the comparison includes the averaged weights


def test_the_cache_may_be_deleted_between_the_two(root, link, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(configuration(root, whole, link, *SETTINGS), whole) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, "on_train_batch_end", 3)
        assert train(configuration(root, cut, link, *SETTINGS), cut) == 143
    resume = (f"ckpt_path='{cut / 'checkpoints' / 'last.ckpt'}'", f"data.cache_dir={tmp_path / 'elsewhere'}")
    assert train(configuration(root, cut, link, *SETTINGS, *resume), cut) == 0
    assert_same_run(cut, whole)


def test_the_samples_of_an_epoch_across_the_cut_are_the_data_set_once(root, link, tmp_path, monkeypatch):
    once = ("trainer.max_epochs=1", "trainer.limit_val_batches=0", "callbacks.checkpointer.monitor=null")
    with recorded_pairs() as seen:
        with monkeypatch.context() as patch:
            stop_after(patch, "on_train_batch_end", 2)
            assert train(configuration(root, tmp_path, link, *once), tmp_path) == 143
        last = tmp_path / "checkpoints" / "last.ckpt"
        assert train(configuration(root, tmp_path, link, *once, f"ckpt_path='{last}'"), tmp_path) == 0
    names = [name for batch, _ in seen for name in batch]
    assert len(names) == len(set(names)) == 21


@pytest.mark.parametrize("cached", ["true", "false"])
def test_a_killed_run_ends_like_an_uninterrupted_one(root, link, tmp_path, cached):
    settings = (
        link,
        *SETTINGS,
        f"model.cache_latents={cached}",
        "callbacks.checkpointer.every_n_steps=2",
        "output_dir=run",
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    code, output = forks.run(whole, *arguments(root, *settings))
    assert code == 0, output
    code, output = run(cut, *arguments(root, *settings, trouble("on_train_batch_start", "SIGKILL", call=8)))
    assert code == -signal.SIGKILL, output
    code, output = run(cut, *arguments(root, *settings, "ckpt_path=run/checkpoints/last.ckpt"))
    assert code == 0, output
    one, other = (read(folder / "run" / "checkpoints" / "last.ckpt") for folder in (whole, cut))
    for part in ("state_dict", "optimizer_states", "rng", "loops"):
        assert_equal(other[part], one[part], part)
    assert read_metrics(whole / "run" / "metrics.csv") == read_metrics(cut / "run" / "metrics.csv")


def test_a_run_killed_while_encoding_reuses_its_cache(root, link, tmp_path):
    program = (
        "import os, signal\n"
        "from pti.data.latent_cache import LatentCache\n"
        "create = LatentCache.create\n"
        "def killed(self, view, shape):\n"
        "    create(self, view, shape)\n"
        "    if view == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LatentCache.create = killed\n"
        "import pti.train.__main__\npti.train.__main__.main()\n"
    )
    cache = tmp_path / "cache"
    settings = (link, *SETTINGS, f"data.cache_dir={cache}")
    command_line = arguments(root, *settings, "output_dir=run")
    with start(tmp_path, *command_line, program=["-c", program]) as process:
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (folder,) = (path for path in (cache / "latents").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.glob("view_*")) == ["view_000.npy", "view_001.part"]
    first = (folder / "view_000.npy").stat().st_mtime_ns
    code, output = run(tmp_path, *arguments(root, *settings, "output_dir=again"))
    assert code == 0, output
    assert sorted(path.name for path in folder.glob("view_*")) == ["view_000.npy", "view_001.npy"]
    assert (folder / "view_000.npy").stat().st_mtime_ns == first
    assert len(read_metrics(tmp_path / "again" / "metrics.csv")) == 2
