"""An autoencoder that learns only what a discrete cosine transform leaves to be learned."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d
from typing_extensions import override

from pti.common.errors import UsageError
from pti.networks.local_autoencoder import LocalAutoencoderKL

_INITIAL_LOG_VARIANCE = -8.0
"""Initial logarithm of the posterior's variance: a standard deviation of 0.02, half of that of the finest
coefficients. Training moves it from the first step on."""


class DctAutoencoderKL(LocalAutoencoderKL):
    """`LocalAutoencoderKL` with a discrete cosine transform (DCT) beside encoder and decoder.

    mean = encoder(image) + DCT(image) and image = decoder(latents) + inverse DCT(latents). The DCT is that of
    the patch of pixels behind each position of the latents, as in JPEG; its C lowest frequencies are the
    latents' channels. The last layers of encoder and decoder start at 0, so that an untrained autoencoder
    already keeps most of an image, and training adds what a fixed transform cannot keep. Shortcuts around a
    deep autoencoder follow Chen et al. (2024, DC-AE, arXiv 2410.10733).

    Such latents keep the texture of bone, and errors in them are errors in the image, because the transform
    is orthogonal. Each coefficient is divided by the edge of the patch and multiplied by its frequency (at
    least 1), as the spectrum of an image falls with 1 / frequency.

    Args:
        options: Of `AutoencoderKL`, for images of one channel and two dimensions.

    Raises:
        UsageError: There are more ``latent_channels`` than pixels in a patch.
    """

    dct: Tensor
    scale: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        edge = 2 ** (len(options["channels"]) - 1)
        if not 0 < self.latent_channels <= edge**2:
            raise UsageError(
                f"model.autoencoder.latent_channels={self.latent_channels}: each position of the latents is "
                f"a patch of {edge} × {edge} pixels, which has {edge**2} frequencies. Set 1 to {edge**2}, "
                "or more levels in model.autoencoder.channels."
            )
        kernels, frequencies = _cosines(edge, self.latent_channels)
        scale = frequencies.clamp(min=1) / edge
        self.register_buffer("dct", kernels)
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        last = cast(nn.ModuleList, self.decoder.blocks)[-1]
        for layer in (self.quant_conv_mu, self.quant_conv_log_sigma, last):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        nn.init.constant_(self.quant_conv_log_sigma.get_parameter("conv.bias"), _INITIAL_LOG_VARIANCE)

    @override
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images (B, 1, H, W) as mean and standard deviation of their latents, (B, C, h, w) each."""
        mean, std = super().encode(x)
        with torch.autocast(x.device.type, enabled=False):
            coefficients = conv2d(x.to(self.dct.dtype), self.dct, stride=self.dct.shape[-1])
            return mean + coefficients * self.scale, std

    @override
    def decode(self, z: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to images (B, 1, H, W)."""
        image = super().decode(z)
        with torch.autocast(z.device.type, enabled=False):
            coefficients = z.to(self.dct.dtype) / self.scale
            return image + conv_transpose2d(coefficients, self.dct, stride=self.dct.shape[-1])

    @override
    def extra_repr(self) -> str:
        """Describe the transform, by which autoencoders of equal weights may differ."""
        return f"dct={tuple(self.dct.shape)}"


def _cosines(edge: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the orthonormal DCT-II of a square patch: its lowest frequencies.

    Args:
        edge: Of the patch, in pixels.
        count: Number of frequencies.

    Returns:
        Kernels (count, 1, edge, edge) and the norms (count,) of their frequencies, in half periods a patch,
        in rising order.
    """
    rows = torch.from_numpy(np.asarray(dct(np.eye(edge), axis=0, norm="ortho")))
    index = torch.arange(edge, dtype=torch.float64)
    norms = torch.hypot(index[:, None], index[None, :]).flatten()
    order = norms.argsort(stable=True)[:count]
    kernels = torch.einsum("ui,vj->uvij", rows, rows).flatten(0, 1)[order, None]
    return kernels.float(), norms[order].float()
