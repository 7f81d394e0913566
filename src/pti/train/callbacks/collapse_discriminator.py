"""Detection of a discriminator that has won: it is never wrong, and teaches the autoencoder nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pti.losses import AdversarialLoss, at_least_float32
from pti.modules.adversarial_vae import AdversarialVAE

WON = 0.01
"""The discriminator has won when its loss is below this part of that of a discriminator that can't tell
images from reconstructions, and when the gradient of the weighted adversarial loss at the reconstructions is
below this part of the gradient of their mean absolute error."""


def chance_loss(adversarial: AdversarialLoss) -> float:
    """Return the loss of a discriminator with the same logits everywhere: 0.25 for lsgan, 1 for hinge."""
    return min(float(adversarial.discriminator(c, c)) for c in torch.linspace(-1, 1, 21))


def adversarial_gradient(module: AdversarialVAE, raw: Tensor) -> float:
    """Return the weighted adversarial loss's gradient norm at reconstructions of raw images (B, 1, H, W).

    It is relative to that of the reconstructions' mean absolute error; 0 without an adversarial loss. Nothing
    in the module changes.
    """
    if module.adversarial is None:
        return 0.0
    with torch.inference_mode(False):
        raw = raw.clone()
        with torch.no_grad():
            image = module.normalization.normalize(raw, module.normalization.statistics(raw))
            fake = at_least_float32(module.inference_autoencoder.reconstruct(image))
        with torch.enable_grad():
            fake.requires_grad_()
            loss = module.adv_weight * module.adversarial.generator(module.discriminator(fake)[-1])
            (gradient,) = torch.autograd.grad(loss, fake)
    return float(gradient.norm()) * fake.numel() ** 0.5


def has_won(losses: Sequence[float], chance: float, gradient: float) -> bool:
    """Tell from recent losses of the discriminator, the loss of chance and `adversarial_gradient`."""
    return len(losses) > 0 and max(losses) < WON * chance and gradient < WON


def describe_win(losses: Sequence[float], chance: float, gradient: float, model: Mapping[str, Any]) -> str:
    """Say that the discriminator has won, by which numbers, and which key of the configuration to turn."""
    rate = model.get("discriminator_optimizer", {}).get("lr", 0.0)
    return (
        f"The discriminator has won: its loss was {max(losses):.2g} or less in {len(losses)} batches "
        f"({chance:g} by chance), and the adversarial loss's gradient is gone ({gradient:.2g} of the "
        f"reconstruction error's). It teaches the autoencoder nothing: start again with "
        f"model.discriminator_optimizer.lr={rate / 10:.1g} (now {rate:g})."
    )
