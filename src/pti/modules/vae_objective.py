"""What the generator of the adversarial VAE minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pti import losses
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

Judge = Callable[[Tensor], Sequence[Tensor]]
"""A discriminator: images (B, 1, H, W) -> its hidden features, then its logits."""


@dataclass
class VaeObjective:
    """The weighted sum of reconstruction, KL, perceptual, extra and adversarial loss.

    ``balance`` gives the adversarial weight from (all other losses, adversarial loss).
    """

    reconstruction: Callable[[Tensor, Tensor], Tensor]
    adversarial: losses.AdversarialLoss
    perceptual: PerceptualLoss | None
    kl_weight: float
    perceptual_weight: float
    balance: Callable[[Tensor, Tensor], Tensor | float]
    extra_losses: Mapping[str, losses.Term] = field(default_factory=dict)

    def __call__(
        self, image: Tensor, reconstruction: Tensor, posterior: Posterior, judge: Judge | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its unweighted parts by name; without a ``judge`` nothing adversarial is in it."""
        parts = {"reconstruction": self.reconstruction(reconstruction, image)}
        parts["kl"] = losses.kl_divergence(posterior.mean, posterior.std)
        loss = parts["reconstruction"] + self.kl_weight * parts["kl"]
        if self.perceptual is not None and self.perceptual_weight:
            parts["perceptual"] = self.perceptual(reconstruction, image)
            loss = loss + self.perceptual_weight * parts["perceptual"]

        fake_logits = None
        available: dict[str, Any] = {"reconstruction": reconstruction, "image": image}
        available |= {"mean": posterior.mean, "std": posterior.std}
        if judge is not None:
            *available["fake_features"], fake_logits = judge(reconstruction)
            if any("real_features" in term.inputs for term in self.extra_losses.values()):
                with torch.no_grad():
                    *available["real_features"], _ = judge(image)
        for name, term in self.extra_losses.items():
            if judge is not None or not term.needs_discriminator:
                parts[name] = term(available)
                loss = loss + term.weight * parts[name]

        if fake_logits is not None:
            parts["adversarial"] = self.adversarial.generator(fake_logits)
            loss = loss + self.balance(loss, parts["adversarial"]) * parts["adversarial"]
        return loss, parts
