"""A trained autoencoder as the second stage needs it: frozen, with the normalisation it was trained with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pti.data.normalization import Normalization
from pti.networks.posterior import Posterior

if TYPE_CHECKING:
    from monai.networks.nets.autoencoderkl import AutoencoderKL


_AT_ONCE = 16
"""Images that pass the autoencoder together: it takes far more memory than the networks on its latents."""


class FrozenAutoencoder(nn.Module):
    """Raw images to latents and back; always in evaluation mode, without gradients, in full precision.

    Full precision, because bfloat16 keeps three digits of a latent, whatever is trained on it; and because
    latents are then the same with and without a cache.
    """

    def __init__(self, autoencoder: AutoencoderKL, normalization: Normalization) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.normalization = normalization
        self.requires_grad_(False).eval()

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return self.autoencoder.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels of an image's side for one of the latents'."""
        return 2 ** (len(cast(Sequence[int], self.autoencoder.encoder.channels)) - 1)

    def train(self, mode: bool = True) -> FrozenAutoencoder:
        """Stays in evaluation mode."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, raw: Tensor, statistics: Tensor | None = None) -> Posterior:
        """Raw images (B, 1, H, W), background exactly 0 -> posterior over latents (B, C, h, w), float32.

        ``statistics`` (B, K), of ``normalization``, are the images' own unless given.
        """
        with torch.autocast(raw.device.type, enabled=False):
            statistics = self.normalization.statistics(raw) if statistics is None else statistics
            image = self.normalization.normalize(raw, statistics).float()
            parts = [self.autoencoder.encode(part) for part in image.split(_AT_ONCE)]
            mean, std = (torch.cat(side) for side in zip(*parts, strict=True))
            return Posterior(mean, std)

    @torch.no_grad()
    def decode(self, latents: Tensor, statistics: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> raw images (B, 1, H, W), background exactly 0."""
        return self.normalization.denormalize(self.decode_normalized(latents), statistics)

    @torch.no_grad()
    def decode_normalized(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> normalised images (B, 1, H, W)."""
        with torch.autocast(latents.device.type, enabled=False):
            return torch.cat([self.autoencoder.decode(part) for part in latents.float().split(_AT_ONCE)])

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any layer, weight or statistic."""
        digest = hashlib.sha256(repr(self).encode())
        for name, value in self.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def _apply(self, fn, recurse=True):
        # Another precision is meant for what is trained.
        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        return super()._apply(moved, recurse)
