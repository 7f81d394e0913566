"""Training in two processes on the CPU gives the same results as in one."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from helpers import forks
from helpers.training_setup import arguments, configuration, run, trouble
from pti.runs.checkpoint import read
from pti.train.callbacks.metrics_csv import read_metrics

pytestmark = pytest.mark.slow

run_forked = partial(forks.run, module="helpers.forked_ranks")  # for what isn't about the start of processes

# SGD in float64 without noise and adversary: only the order of summation differs.
EXACT = (
    "trainer.precision=64-true",
    "trainer.limit_train_batches=4",  # full batches: the halves of the last one may be unequal
    "model.generator_optimizer._target_=torch.optim.SGD",
    "~model.generator_optimizer.betas",
    "model.generator_optimizer.lr=0.01",
    "model.disc_start=1000",
    "+callbacks.silence={_target_:helpers.training_setup.Silence}",
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = read(folder / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_two_processes_train_like_one(root, tmp_path):
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        settings = (f"trainer.devices={devices}", f"data.batch_size={4 // devices}", "output_dir=run", *EXACT)
        start = run_forked if devices == 1 else run
        code, output = start(tmp_path / str(devices), *arguments(root, *settings))
        assert code == 0, output
    ranks = [torch.load(tmp_path / "2" / f"weights_{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    one, two = (weights(tmp_path / name) for name in ("1", "2"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-12
    initial = max(
        float((one[name] - one[name.replace("autoencoder", "ema.model")]).abs().max()) for name in one
    )
    assert initial > 1e-4  # training changed the weights


def test_two_processes_stopped_inside_an_accumulation_window(root, tmp_path):
    window = ("model.accumulate_grad_batches=3", "trainer.devices=2", "data.batch_size=2", *EXACT)
    settings = arguments(root, "output_dir=run", *window)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert run_forked(whole, *settings)[0] == 0
    code, output = run_forked(cut, *settings, trouble("on_train_batch_start", "SIGTERM", 2, rank=1))
    assert code == 143, output
    assert read(cut / "run" / "checkpoints" / "last.ckpt")["accumulated_gradients"]
    code, output = run_forked(cut, *settings, "ckpt_path=run/checkpoints/last.ckpt")
    assert code == 0, output
    one, two = weights(whole), weights(cut)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-12


def test_two_processes_validate_like_one(root, tmp_path):
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        settings = (f"trainer.devices={devices}", f"data.batch_size={4 // devices}", "model.disc_start=1000")
        frozen = (
            "model.generator_optimizer.lr=0",
            "model.ema_decay=null",
            "trainer.max_epochs=1",
            "output_dir=run",
        )
        start = run_forked if devices == 1 else run
        code, output = start(tmp_path / str(devices), *arguments(root, *settings, *frozen))
        assert code == 0, output
    one, two = (read_metrics(tmp_path / name / "run" / "metrics.csv")[0] for name in ("1", "2"))
    for name in one:
        if name.startswith("val/"):
            assert one[name] == pytest.approx(two[name], rel=1e-5, abs=1e-6), name


def test_one_process_under_ddp_trains_like_one_without(root, tmp_path):
    for trainer in ("cpu", "ddp_cpu"):
        (tmp_path / trainer).mkdir()
        settings = (f"trainer={trainer}", "trainer.devices=1", "trainer.max_epochs=1", "output_dir=run")
        code, output = run_forked(tmp_path / trainer, *arguments(root, *settings))
        assert code == 0, output
    one, other = weights(tmp_path / "cpu"), weights(tmp_path / "ddp_cpu")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_nan_on_one_rank_stops_all(root, tmp_path):
    poison = trouble("on_train_batch_start", "poison", call=8, rank=1)
    settings = ("trainer.devices=2", "data.batch_size=2", "output_dir=run")
    code, output = run(tmp_path, *arguments(root, poison, *settings))
    assert code == 1, output
    assert "is not finite" in output
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        assert all(bool(torch.isfinite(value).all()) for value in read(path)["state_dict"].values())


def test_a_sweep_over_two_processes(root, tmp_path):
    settings = ("trainer.devices=2", "data.batch_size=2", "trainer.max_epochs=1")
    code, output = run(
        tmp_path, "-m", *arguments(root, *settings, "seed=1,2", "model.kl_weight=1e-6"), timeout=240
    )
    assert code == 0, output
    (sweep,) = (tmp_path / "outputs").glob("*/sweeps/*")
    seeds = [read(path)["config"]["seed"] for path in sweep.glob("*/checkpoints/last.ckpt")]
    assert sorted(seeds) == [1, 2]


def test_a_failed_job_does_not_hold_up_the_next(root, tmp_path):
    settings = ("trainer.devices=2", "trainer.max_epochs=1")
    code, output = run(tmp_path, "-m", *arguments(root, *settings, "data.batch_size=100,2"), timeout=240)
    assert code == 1, output
    (checkpoint,) = (tmp_path / "outputs").glob("*/sweeps/*/*/checkpoints/last.ckpt")
    assert read(checkpoint)["config"]["data"]["batch_size"] == 2


def test_a_resumed_run_of_two_processes(root, tmp_path):
    settings = ("trainer.devices=2", "data.batch_size=2", "output_dir=run")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert run_forked(whole, *arguments(root, *settings))[0] == 0
    code, output = run_forked(
        cut, *arguments(root, *settings, trouble("on_train_batch_start", "SIGTERM", 7, rank=1))
    )
    assert code == 143, output
    code, output = run_forked(cut, *arguments(root, *settings, "ckpt_path=run/checkpoints/last.ckpt"))
    assert code == 0, output
    one, two = weights(whole), weights(cut)
    assert all(torch.equal(one[name], two[name]) for name in one)
    code, output = run_forked(cut, *arguments(root, "output_dir=run", "ckpt_path=run/checkpoints/last.ckpt"))
    assert code == 2, output
    assert "devices" in output


def test_two_processes_with_frozen_weights_from_a_file(root, tmp_path):
    config = configuration(root, tmp_path / "unused")
    torch.save(instantiate(config.model).autoencoder.state_dict(), tmp_path / "weights.pth")
    settings = ("trainer.devices=2", "data.batch_size=2", "freeze=[encoder]", "output_dir=run")
    code, output = run_forked(tmp_path, *arguments(root, *settings, f"init_from={tmp_path}/weights.pth"))
    assert code == 0, output
    assert output.count("The autoencoder on 1 validation patient: ") == 1
    given = torch.load(tmp_path / "weights.pth")
    for name, value in weights(tmp_path).items():
        if name.startswith("autoencoder.encoder."):
            assert torch.equal(value, given[name.removeprefix("autoencoder.")])
