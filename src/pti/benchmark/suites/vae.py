"""Suite ``vae``: training speed of the first stage with different settings."""

from functools import partial

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import SuiteSettings, time_epoch

_SIZE = 128  # of the images of vae_demo, pixels

_SWITCHES = {
    "as it is": (),
    "no perceptual term": ("model/perceptual=none",),
    "focal frequency term": ("model/extra_losses=[focal_frequency]",),
    "channels last": ("model.channels_last=true",),
    "batches of 8": ("data.batch_size=8",),
}


def vae_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare epochs of ``vae_demo`` on phantoms, with discriminator, and the perceptual distance."""
    size, patients = min(_SIZE, settings.image_size), max(2, settings.images // 4)
    shared = [*settings.phantom(patients, size), "model.disc_start=0"]
    epochs = {
        name: partial(time_epoch, settings.build("vae_demo", [*shared, *overrides]))
        for name, overrides in _SWITCHES.items()
    }
    return [
        Comparison(f"training epoch of vae_demo, {size} × {size} pixels", "images/s", 4 * patients, epochs),
        _perceptual(settings.image_size),
    ]


def _perceptual(size: int) -> Comparison:
    """Compare the default perceptual distance with its gradient, for a batch of two."""
    import torch

    from pti.networks.perceptual import Lite0Perceptual

    image, target = torch.rand(2, 2, 1, size, size, generator=torch.Generator().manual_seed(0))
    target.requires_grad_()

    def gradient(perceptual: Lite0Perceptual) -> None:
        perceptual(target, image).backward()

    ways = {
        "as published": partial(gradient, Lite0Perceptual(fuse=False)),
        "as it is used": partial(gradient, Lite0Perceptual()),
    }
    return Comparison(f"perceptual distance and gradient, {size} × {size} pixels", "images/s", 2, ways)
