"""A second stage so small that a training run takes a second or two, and the autoencoder that it needs."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import OmegaConf

from helpers import training_setup
from helpers.training_setup import SIZE
from pti.common.conf_dir import CONF_DIR
from pti.common.randomness import sample_generator
from pti.diffusion.formulation import DiffusionPath
from pti.modules import latent_diffusion
from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.latent_space import LatentSpace
from pti.modules.tif_data import TifDataModule
from pti.modules.translation import Translation
from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights
from pti.train.run import train

COMMON = [
    "trainer=cpu",
    "trainer.max_epochs=2",
    f"data.image_size={SIZE}",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.fractions=[0.6,0.2,0.2]",
    "model.network.channels=[4,8]",
    "model.network.attention_levels=[false,true]",
    "model.network.num_res_blocks=1",
    "model.network.num_head_channels=4",
    "model.network.norm_num_groups=2",
    "++model.network.cross_attention_dim=8",
    "model.optimizer.lr=1e-3",
    "model.ema_decay=0.9",
    "model.bone_metrics=false",
    "model.validation_images=2",
    "callbacks.pictures=null",
    "callbacks.checkpointer.monitor=val/loss",
]
DIFFUSION = ["model=latent_diffusion", "model/conditioning=concat", *COMMON, "model.sampling_steps=2"]
REGRESSION = ["model=regression", *COMMON]
LATENT_REGRESSION = ["model=latent_regression", *COMMON]

configuration = functools.partial(training_setup.configuration, base=DIFFUSION)
arguments = functools.partial(training_setup.arguments, base=DIFFUSION)


def save_autoencoder(root: Path, path: Path, *overrides: str) -> Path:
    """A checkpoint as stage 1 writes it, with fresh weights."""
    config = training_setup.configuration(root, path.parent, "data.sources=both", *overrides)
    plain: Any = OmegaConf.to_container(config)
    torch.manual_seed(0)
    module, data = instantiate(plain["model"]), instantiate(plain["data"])
    data.setup()
    module.normalization.fit(data.training_images())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"config": plain, "state_dict": module.state_dict()}, path)
    return path


def data_of(config: Any) -> TifDataModule:
    """The data that a configuration names."""
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    return data


def module_of(config: Any) -> Any:
    """The module that a configuration names, with the autoencoder of ``autoencoder_ckpt`` in it."""
    plain: Any = OmegaConf.to_container(config)
    weights = embed_first_stage_config(plain)
    torch.manual_seed(0)
    module = instantiate(plain["model"])
    if weights is not None:
        load_first_stage_weights(module, weights)
    if getattr(module, "latent_space", None) is not None:
        module.latent_space.scaling.scale.fill_(0.5)
        module.latent_space.scaling.shift.fill_(0.1)
    return module


def fill_zeros(module: Translation) -> None:
    """New networks answer 0; filled, everything before the last layer matters too."""
    generator = torch.Generator().manual_seed(5)
    for network in (module.network, *([module.ema.model] if module.ema else [])):
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.3, generator=generator)


def training_batch(data: TifDataModule, count: int = 4, epoch: int = 0) -> dict[str, Any]:
    """The first pairs of the training split."""
    return data.training_set().__getitems__([(epoch, index) for index in range(count)])


def one_step(module: Translation, batch: dict[str, Any]) -> float:
    """Take one step of plain gradient descent without a trainer, and return the loss before it."""
    module.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "optimizing", lambda network, batch_idx: nullcontext(torch.Tensor.backward))
        patch.setattr(module, "log", lambda *given, **named: None)
        loss = module.training_step(module.on_before_batch_transfer(batch, 0), 0)["loss"]
    with torch.no_grad():
        for parameter in module.network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    if module.ema is not None:
        module.ema.update(module.network)
    return float(loss.detach())


def generators(names: list[str], sample: int = 0) -> list[torch.Generator]:
    """One for each image."""
    return [sample_generator(0, name, sample) for name in names]


def trained(config: Any, folder: Path) -> Path:
    """The folder of a finished training."""
    assert train(config, folder) == 0
    return folder


@contextmanager
def recorded_pairs() -> Iterator[list[tuple[list[str], torch.Tensor]]]:
    """Collect (names, scaled condition and target) of every training batch."""
    seen: list[tuple[list[str], torch.Tensor]] = []
    original: Callable = LatentSpace.encode_pair

    def encode_pair(self: Any, batch: dict[str, Any], generator: Any) -> Any:
        pair = original(self, batch, generator)
        if isinstance(generator, torch.Generator):  # validation has one for each sample
            seen.append((batch["name"], torch.stack(pair)))
        return pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatentSpace, "encode_pair", encode_pair)
        yield seen


def names(group: str) -> list[str]:
    """The files of a group of ``conf/model``."""
    return [path.stem for path in sorted((CONF_DIR / "model" / group).glob("*.yaml"))]


class NoChance(Callback):
    """No noise, half-way times, and each rank's weights in a file at the end."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        def half(self: DiffusionPath, count: int, generator: torch.Generator) -> torch.Tensor:
            return torch.full((count,), 0.5, dtype=torch.float64)

        latent_diffusion.gaussian_noise = lambda like, generator: torch.zeros_like(like)
        if isinstance(pl_module, LatentDiffusion):
            type(pl_module.path).training_times = half

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        torch.save(pl_module.state_dict(), f"weights_{trainer.global_rank}.pt")
