"""The loss of the adversarial VAE's generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pti import losses
from pti.common.errors import UsageError
from pti.networks.perceptual import PerceptualLoss
from pti.networks.posterior import Posterior

Discriminator = Callable[[Tensor], Sequence[Tensor]]
"""Images (B, 1, H, W) -> hidden features, then logits."""


@dataclass
class VaeObjective:
    """The weighted sum of reconstruction, KL, perceptual, extra and adversarial loss.

    Attributes:
        reconstruction: (reconstruction, image) -> loss.
        adversarial: generator's and discriminator's losses of the logits; None = none.
        perceptual: perceptual distance; None = none.
        kl_weight: of the KL summed over an image's latents.
        perceptual_weight: of the perceptual distance; 0 leaves it out.
        adversarial_weight: (all other losses, adversarial loss) -> weight of the adversarial loss.
        extra_losses: further losses by name, each with its weight.
    """

    reconstruction: Callable[[Tensor, Tensor], Tensor]
    adversarial: losses.AdversarialLoss | None
    perceptual: PerceptualLoss | None
    kl_weight: float
    perceptual_weight: float
    adversarial_weight: Callable[[Tensor, Tensor], Tensor | float]
    extra_losses: Mapping[str, losses.Term] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse losses on features of the discriminator if there is none."""
        names = [name for name, term in self.extra_losses.items() if term.needs_discriminator]
        if self.adversarial is None and names:
            raise UsageError(
                f"model/extra_losses=[{','.join(names)}]: compares features of the discriminator, which "
                "model/adversarial=none leaves out. Remove one of the two."
            )

    def __call__(
        self, image: Tensor, reconstruction: Tensor, posterior: Posterior, discriminator: Discriminator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its unweighted parts by name.

        Without a ``discriminator``, adversarial loss and losses on its features are left out.
        """
        parts = {"reconstruction": self.reconstruction(reconstruction, image)}
        parts["kl"] = losses.kl_divergence(posterior.mean, posterior.std)
        loss = parts["reconstruction"] + self.kl_weight * parts["kl"]
        if self.perceptual is not None and self.perceptual_weight:
            parts["perceptual"] = self.perceptual(reconstruction, image)
            loss = loss + self.perceptual_weight * parts["perceptual"]

        fake_logits = None
        inputs: dict[str, Any] = {"reconstruction": reconstruction, "image": image}
        inputs |= {"mean": posterior.mean, "std": posterior.std}
        if discriminator is not None:
            *inputs["fake_features"], fake_logits = discriminator(reconstruction)
            if any("real_features" in term.inputs for term in self.extra_losses.values()):
                with torch.no_grad():
                    *inputs["real_features"], _ = discriminator(image)
        for name, term in self.extra_losses.items():
            if discriminator is not None or not term.needs_discriminator:
                parts[name] = term(inputs)
                loss = loss + term.weight * parts[name]

        if fake_logits is not None and self.adversarial is not None:
            parts["adversarial"] = self.adversarial.generator(fake_logits)
            loss = loss + self.adversarial_weight(loss, parts["adversarial"]) * parts["adversarial"]
        return loss, parts
