"""A trained autoencoder, frozen, with the normalisation that it was trained with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pti.common.precision import in_float32
from pti.data.normalization import Normalization
from pti.networks.posterior import Posterior

if TYPE_CHECKING:
    from monai.networks.nets.autoencoderkl import AutoencoderKL


_AT_ONCE = 16
"""Images that are encoded or decoded together: an autoencoder needs far more memory than a denoiser."""


class FrozenAutoencoder(nn.Module):
    """Raw images to latents and back; always in evaluation mode, without gradients, in float32.

    bfloat16 would keep three digits of a latent, TF32 four, and latents would differ between training and
    inference, and with and without a cache.

    Args:
        autoencoder: the trained network.
        normalization: of its images.
    """

    def __init__(self, autoencoder: AutoencoderKL, normalization: Normalization) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.normalization = normalization
        self.requires_grad_(False).eval()

    @property
    def latent_channels(self) -> int:
        """Channels C of the latents."""
        return self.autoencoder.latent_channels

    @property
    def downsampling(self) -> int:
        """Ratio of the image's width to the latents' width."""
        return 2 ** (len(cast(Sequence[int], self.autoencoder.encoder.channels)) - 1)

    def train(self, mode: bool = True) -> FrozenAutoencoder:
        """Stay in evaluation mode, whatever ``mode`` is."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, raw: Tensor, statistics: Tensor | None = None) -> Posterior:
        """Encode raw images (B, 1, H, W), background exactly 0, as posteriors over latents (B, C, h, w).

        ``statistics`` (B, K) of ``normalization`` are those of the images unless given. Latents are float32.
        """
        with in_float32(raw.device):
            statistics = self.normalization.statistics(raw) if statistics is None else statistics
            image = self.normalization.normalize(raw, statistics).float()
            parts = [self.autoencoder.encode(part) for part in image.split(_AT_ONCE)]
            mean, std = (torch.cat(column) for column in zip(*parts, strict=True))
            return Posterior(mean, std)

    @torch.no_grad()
    def decode(self, latents: Tensor, statistics: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to raw images (B, 1, H, W), background exactly 0."""
        return self.normalization.denormalize(self.decode_normalized(latents), statistics)

    @torch.no_grad()
    def decode_normalized(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to normalised images (B, 1, H, W)."""
        with in_float32(latents.device):
            return torch.cat([self.autoencoder.decode(part) for part in latents.float().split(_AT_ONCE)])

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with any layer, weight or statistic."""
        digest = hashlib.sha256(repr(self).encode())
        for name, value in self.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def _apply(self, fn, recurse=True):
        # Only trained networks change their precision.
        def moved(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        return super()._apply(moved, recurse)
