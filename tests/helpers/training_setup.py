"""A tiny data set, model and command line: a training run takes a second or two."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from helpers.forks import environment
from pti.common.conf_dir import CONF_DIR
from pti.data.tif import write
from pti.networks.posterior import Posterior

SIZE = 16
TINY = [
    "model=adversarial_vae",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "data.sources=target",
    f"data.image_size={SIZE}",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.fractions=[0.6,0.2,0.2]",
    "model/perceptual=none",
    "model.autoencoder.channels=[4,8]",
    "model.autoencoder.attention_levels=[false,false]",
    "model.autoencoder.num_res_blocks=1",
    "model.autoencoder.norm_num_groups=2",
    "model.autoencoder.with_encoder_nonlocal_attn=false",
    "model.autoencoder.with_decoder_nonlocal_attn=false",
    "model.discriminator.channels=4",
    "model.discriminator.num_layers_d=1",
    "model.generator_optimizer.lr=1e-3",
    "model.discriminator_optimizer.lr=1e-3",
    "model.disc_start=5",
    "model.disc_start_unit=batches",
    "model.ema_decay=0.9",
    "model.bone_metrics=false",
    "callbacks.pictures=null",
]


class Trouble(Callback):
    """Raise, poison the weights, sleep, or send a signal at the ``call``-th call of a hook on one rank."""

    def __init__(self, hook: str, what: str, call: int = 1, rank: int = 0) -> None:
        self.what, self.call, self.rank, self.calls = what, call, rank, 0
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Any, module: Any, *_: Any, **__: Any) -> None:
        self.calls += not trainer.sanity_checking
        if trainer.sanity_checking or self.calls != self.call or trainer.global_rank != self.rank:
            return
        if self.what == "raise":
            raise ValueError("trouble was asked for")
        if self.what == "poison":
            with torch.no_grad():
                next(module.parameters()).fill_(torch.nan)
        elif self.what == "sleep":
            Path("sleeping").touch()
            time.sleep(1000)
        else:
            os.kill(os.getpid(), getattr(signal, self.what))


class Silence(Callback):
    """Replace samples of the posterior by its mean; save each rank's weights to a file at the end."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        def mean(self: Posterior, generator: Any = None, noise: float = 0.0) -> torch.Tensor:
            return self.mean

        Posterior.sample = mean

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        torch.save(pl_module.state_dict(), f"weights_{trainer.global_rank}.pt")


def trouble(hook: str, what: str, call: int = 1, rank: int = 0) -> str:
    """Return the override that adds `Trouble`."""
    settings = f"hook:{hook},what:{what},call:{call},rank:{rank}"
    return f"+callbacks.trouble={{_target_:helpers.training_setup.Trouble,{settings}}}"


def make_images(root: Path, patients: int = 10, slices: int = 3, size: int = SIZE) -> Path:
    """Write pairs of noisy discs in the default layout."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    for patient in range(patients):
        for index in range(slices):
            centre = random.uniform(0.35, 0.65, 2) * size
            inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.3 * size) ** 2
            for folder in ("dente", "edente"):
                pixels = np.where(inside, 500 + 100 * random.standard_normal((size, size)), 0)
                (root / folder).mkdir(parents=True, exist_ok=True)
                name = f"{1000 + index}_HA_2021_02_{patient + 100}.tif"
                write(root / folder / name, pixels.astype(np.float32), 0.15)
    return root


def arguments(root: Path, *overrides: str, base: Sequence[str] = TINY) -> list[str]:
    """Return the command line of a tiny training."""
    return [*base, f"data.root={root}", f"data.cache_dir={root.parent / 'cache'}", *overrides]


def configuration(root: Path, output_dir: Path, *overrides: str, base: Sequence[str] = TINY) -> DictConfig:
    """Compose and resolve the configuration that `pti.train.run.train` takes."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        words = arguments(root, *overrides, f"output_dir={output_dir}", base=base)
        config = compose("train", words, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return OmegaConf.create(plain)


def start(cwd: Path, *command_line: str, program: list[str] | None = None) -> subprocess.Popen[str]:
    """Start ``python -m pti.train …`` in a new process and session; `forks.start` is faster."""
    return subprocess.Popen(
        [sys.executable, *(program or ["-m", "pti.train"]), *command_line],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(cwd: Path, *command_line: str, timeout: float = 120) -> tuple[int, str]:
    """Run ``python -m pti.train …`` in a new process; return the exit code and the output."""
    with start(cwd, *command_line) as process:
        output, _ = process.communicate(timeout=timeout)
    return process.returncode, output
