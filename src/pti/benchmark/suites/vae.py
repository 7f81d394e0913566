"""The suite ``vae``: what the first stage's choices cost in time."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import phantom, timed_epoch

_SIZE = 128  # of vae_demo's images, pixels

_SWITCHES = {
    "as it is": (),
    "no perceptual term": ("model/perceptual=none",),
    "focal frequency term": ("model/extra_losses=[focal_frequency]",),
    "channels last": ("model.channels_last=true",),
    "batches of 8": ("data.batch_size=8",),
}


def vae_suite(config: DictConfig, scratch: Path) -> list[Comparison]:
    """Epochs of ``vae_demo`` on phantoms, discriminator included; the perceptual distance."""
    size, patients = min(_SIZE, config.image_size), max(2, config.images // 4)
    shared = [*phantom(scratch, patients, size), "data.num_workers=0", "model.disc_start=0"]
    epochs = {name: timed_epoch("vae_demo", [*shared, *given])[1] for name, given in _SWITCHES.items()}
    return [
        Comparison(f"training epoch of vae_demo, {size} × {size} pixels", "images/s", 4 * patients, epochs),
        _perceptual(config.image_size),
    ]


def _perceptual(size: int) -> Comparison:
    """The default perceptual distance with its gradient, for a batch of two."""
    import torch

    from pti.networks.perceptual import Lite0Perceptual

    image, found = torch.rand(2, 2, 1, size, size, generator=torch.Generator().manual_seed(0))
    found.requires_grad_()

    def gradient(ruler: Lite0Perceptual) -> Callable[[], None]:
        return lambda: ruler(found, image).backward()

    ways = {
        "as published": gradient(Lite0Perceptual(fuse=False)),
        "as it is used": gradient(Lite0Perceptual()),
    }
    return Comparison(f"perceptual distance and gradient, {size} × {size} pixels", "images/s", 2, ways)
