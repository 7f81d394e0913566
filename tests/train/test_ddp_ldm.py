"""Stage 2 in two processes on the CPU gives the same weights, latents and metrics as in one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import forks
from helpers.second_stage_setup import LATENT_REGRESSION, arguments
from helpers.training_setup import arguments as stage_arguments
from helpers.training_setup import run
from pti.runs.checkpoint import read
from pti.train.callbacks.metrics_csv import read_metrics

pytestmark = pytest.mark.slow

# SGD in float64 without randomness: only the order of summation differs.
EXACT = (
    "trainer.precision=64-true",
    "trainer.limit_train_batches=4",  # full batches: the halves of the last one may be unequal
    "model.optimizer._target_=torch.optim.SGD",
    "~model.optimizer.betas",
    "model.optimizer.lr=0.01",
    "model.sample_posterior=false",
    "+callbacks.no_chance={_target_:helpers.second_stage_setup.NoChance}",
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = read(folder / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    return {name: value for name, value in state.items() if value is not None and value.is_floating_point()}


@pytest.mark.parametrize("base", ["diffusion", "regression"])
def test_two_processes_train_like_one(root: Path, link: str, tmp_path: Path, base: str):
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        settings = (
            f"trainer.devices={devices}",
            f"data.batch_size={4 // devices}",
            "output_dir=run",
            link,
            *EXACT,
        )
        words = (
            arguments(
                root, *settings, "model/path=rectified_flow"
            )  # it has a target other than the noise, which is 0 here
            if base == "diffusion"
            else stage_arguments(root, *settings, base=LATENT_REGRESSION)
        )
        start = forks.run if devices == 1 else run
        code, output = start(tmp_path / str(devices), *words)
        assert code == 0, output
    ranks = [torch.load(tmp_path / "2" / f"weights_{rank}.pt") for rank in (0, 1)]
    compared = [name for name, value in ranks[0].items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in compared)
    one, two = (weights(tmp_path / name) for name in ("1", "2"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-12
    learnt = max(
        float((one[name] - one[name.replace("network.", "ema.model.", 1)]).abs().max())
        for name in one
        if name.startswith("network.")
    )
    assert learnt > 1e-4


def test_two_processes_encode_and_validate_like_one(root: Path, link: str, tmp_path: Path):
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        settings = (
            f"trainer.devices={devices}",
            f"data.batch_size={4 // devices}",
            f"data.cache_dir={tmp_path / str(devices) / 'cache'}",
            "data/augmentation=mild",
            "model.latent_views=2",
            "model.optimizer.lr=0",
            "model.ema_decay=null",
            "model.validation_images=5",
            "trainer.max_epochs=2",
            "output_dir=run",
        )
        start = forks.run if devices == 1 else run
        code, output = start(tmp_path / str(devices), *arguments(root, link, *settings))
        assert code == 0, output
    caches = [sorted((tmp_path / name / "cache" / "latents").rglob("*.npy")) for name in ("1", "2")]
    assert [path.relative_to(tmp_path / "1") for path in caches[0]] == [
        path.relative_to(tmp_path / "2") for path in caches[1]
    ]
    assert len(caches[0]) == 2
    for one, two in zip(*caches, strict=True):
        np.testing.assert_allclose(np.load(one), np.load(two), rtol=1e-5, atol=1e-6)
    rows = [read_metrics(tmp_path / name / "run" / "metrics.csv")[0] for name in ("1", "2")]
    for name, value in rows[0].items():
        if name.startswith("val/"):
            assert value == pytest.approx(rows[1][name], rel=1e-4, abs=1e-5), name
    scales = [weights(tmp_path / name)["latent_space.scaling.scale"] for name in ("1", "2")]
    torch.testing.assert_close(scales[0], scales[1], rtol=1e-5, atol=0)
