"""A tiny adversarial VAE and data for it: seconds, not minutes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pti import losses
from pti.data.normalization import RangeNormalization
from pti.modules.adversarial_vae import AdversarialVAE

SIZE = 32


class Images(Dataset):
    """Bright discs on a background of exactly 0."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def raw(self, index: int) -> np.ndarray:
        random = np.random.default_rng(self.first + index)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        radius = random.uniform(6, 12)
        disc = (rows - 16) ** 2 + (columns - 16) ** 2 < radius**2
        return np.where(disc, random.uniform(500, 1500, (SIZE, SIZE)), 0).astype(np.float32)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": torch.from_numpy(self.raw(index))[None], "pixel_mm": torch.tensor(0.15)}


class Data(lightning.LightningDataModule):
    """Training images in a fixed order; rank r of w takes every w-th of each global batch."""

    def __init__(self, count: int = 8, batch_size: int = 4, val_count: int = 3) -> None:
        super().__init__()
        self.images, self.batch_size, self.val_images = (
            Images(count),
            batch_size,
            Images(val_count, first=1000),
        )

    def training_images(self) -> Iterator[np.ndarray]:
        return (self.images.raw(i) for i in range(len(self.images)))

    def _loader(self, images: Images, batch_size: int) -> DataLoader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        shard = torch.utils.data.Subset(images, range(rank, len(images), world))
        return DataLoader(shard, batch_size=batch_size)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.images, self.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val_images, 2)


def tiny_vae(
    networks_seed: int = 0, autoencoder: dict[str, Any] | None = None, **settings: Any
) -> AdversarialVAE:
    """The module, with small networks; ``settings`` as for AdversarialVAE."""
    torch.manual_seed(networks_seed)
    network = AutoencoderKL(
        **{
            "spatial_dims": 2,
            "channels": (4, 8),
            "num_res_blocks": 1,
            "attention_levels": (False, False),
            "latent_channels": 2,
            "norm_num_groups": 2,
            "with_encoder_nonlocal_attn": False,
            "with_decoder_nonlocal_attn": False,
            **(autoencoder or {}),
        }
    )
    discriminator = PatchDiscriminator(
        spatial_dims=2, channels=4, in_channels=1, num_layers_d=2, norm="INSTANCE"
    )
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    return AdversarialVAE(
        network,
        discriminator,
        settings.pop("normalization", RangeNormalization()),
        settings.pop("generator_optimizer", adam),
        settings.pop("discriminator_optimizer", adam),
        settings.pop("adversarial", losses.lsgan()),
        **{"disc_start": 0, **settings},
    )


def fit(module: AdversarialVAE, data: Data | None = None, **trainer: Any) -> lightning.Trainer:
    """Trains on the CPU without loggers or files."""
    ckpt_path = trainer.pop("ckpt_path", None)
    built = lightning.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            **trainer,
        }
    )
    built.fit(module, datamodule=data or Data(), ckpt_path=ckpt_path)
    return built


def weights(module: torch.nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
