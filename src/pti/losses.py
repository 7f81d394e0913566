"""Pure loss functions: tensors to one scalar, the mean over the batch, in float32 or float64.

Images and reconstructions are (B, 1, H, W), normalised; logits have any shape.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TERM_INPUTS = ("reconstruction", "image", "mean", "std", "fake_features", "real_features")
"""Names of the arguments that the function of a `Term` may have."""


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert to float32, unless the tensor is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def l1(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute error per pixel."""
    return F.l1_loss(at_least_float32(reconstruction), at_least_float32(image))


def l2(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Return the mean squared error per pixel."""
    return F.mse_loss(at_least_float32(reconstruction), at_least_float32(image))


def kl_divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Return KL(N(mean, std²) ‖ N(0, 1)) = ½·Σ(μ² + σ² − log σ² − 1), in nats.

    It is summed over an image's latents and averaged over the batch, as in common latent-diffusion recipes,
    in which ``kl_weight`` is about 1e-6 (Kingma & Welling 2014, appendix B). ``mean`` and ``std`` are (B, C,
    h, w); ``std`` is a standard deviation > 0, not a log-variance.
    """
    return kl_per_image(mean, std).mean()


def kl_per_image(mean: Tensor, std: Tensor) -> Tensor:
    """Return the KL of each image, (B,), summed over its latents, in nats."""
    variance = at_least_float32(std).square()
    return 0.5 * (at_least_float32(mean).square() + variance - variance.log() - 1).flatten(1).sum(1)


def gaussian_crps(mean: Tensor, std: Tensor, value: Tensor) -> Tensor:
    """Return the CRPS of N(mean, std²) at each value (Gneiting and Raftery 2007, equation 21).

    All have one shape; NaN values give NaN without a gradient.
    """
    known = value.isfinite()
    z = torch.where(known, value - mean, 0.0) / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    score = std * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return torch.where(known, score, torch.nan)


def attribute_order(attributes: Tensor, values: Tensor, delta: float) -> Tensor:
    """Return how far attributes a are from the order of measured values v.

    Attribute regularisation (Pati & Lerch 2020, arXiv 2004.05485): mean of |tanh(delta · (a_i − a_j)) −
    sign(v_i − v_j)| over the pairs of the batch and over the attributes. 0 for the same order and large
    differences.

    Args:
        attributes: (B, M).
        values: (B, M), NaN where unknown: pairs with such a value are left out.
        delta: Factor of the attributes' differences.
    """
    attributes = at_least_float32(attributes)
    differences = values[:, None] - values[None]
    known = differences.isfinite()
    order = torch.where(known, differences, 0.0).sign()
    errors = (torch.tanh(delta * (attributes[:, None] - attributes[None])) - order).abs()
    return torch.where(known, errors, 0.0).sum() / known.sum().clamp_min(1)


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of generator and discriminator, as functions of the discriminator's raw logits.

    Attributes:
        name: short name.
        generator: fake logits -> loss of the generator.
        discriminator: (real logits, fake logits) -> loss of the discriminator.
    """

    name: str
    generator: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


def lsgan() -> AdversarialLoss:
    """Return least-squares losses of the raw logits, real 1 and fake 0 (Mao et al. 2017, eq. 9)."""

    def generator(fake: Tensor) -> Tensor:
        return (at_least_float32(fake) - 1).square().mean()

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((at_least_float32(real) - 1).square().mean() + at_least_float32(fake).square().mean())

    return AdversarialLoss("lsgan", generator, discriminator)


def hinge() -> AdversarialLoss:
    """Return hinge losses of the raw logits, margin 1; the generator's is linear (Lim & Ye 2017)."""

    def generator(fake: Tensor) -> Tensor:
        return -at_least_float32(fake).mean()

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (F.relu(1 - at_least_float32(real)).mean() + F.relu(1 + at_least_float32(fake)).mean())

    return AdversarialLoss("hinge", generator, discriminator)


def gradient(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Return the mean absolute error of horizontal and vertical finite differences, for sharp edges."""
    difference = at_least_float32(reconstruction) - at_least_float32(image)
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def focal_frequency(reconstruction: Tensor, image: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the squared error of the orthonormal 2-D spectrum, weighted by its size to the power ``alpha``.

    Focal frequency loss (Jiang et al. 2021, eq. 8–9). The weight, scaled to a maximum of 1 in each image,
    emphasises the frequencies that are hard to match: texture.
    """
    error = torch.fft.fft2(at_least_float32(reconstruction) - at_least_float32(image), norm="ortho").abs()
    weight = error.detach() ** alpha
    weight = weight / weight.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight * error.square()).mean()


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of discriminator features (Wang et al. 2018, eq. 4)."""
    pairs = zip(fake_features, real_features, strict=True)
    return torch.stack(
        [F.l1_loss(at_least_float32(fake), at_least_float32(real.detach())) for fake, real in pairs]
    ).mean()


class Term:
    """A further loss with its weight.

    Args:
        weight: factor of the loss.
        function: its arguments are named after the `TERM_INPUTS` that it needs. A function that requires
            another argument raises ``ValueError``.
    """

    def __init__(self, weight: float, function: Callable[..., Tensor]) -> None:
        # Arguments that a partial has already set by keyword are no longer required.
        preset = getattr(function, "keywords", {})
        parameters = inspect.signature(function).parameters
        required = [name for name, p in parameters.items() if p.default is p.empty and name not in preset]
        unknown = sorted(set(required) - set(TERM_INPUTS))
        if unknown:
            raise ValueError(
                f"unknown arguments of a loss: {', '.join(unknown)}; known are {', '.join(TERM_INPUTS)}"
            )
        self.weight = weight
        self.function = function
        self.inputs = tuple(required)

    @property
    def needs_discriminator(self) -> bool:
        """True when it compares discriminator features, which exist once the discriminator trains."""
        return "fake_features" in self.inputs or "real_features" in self.inputs

    def __call__(self, available: Mapping[str, Any]) -> Tensor:
        """Return the unweighted loss of the available inputs, by name."""
        return self.function(**{name: available[name] for name in self.inputs})
