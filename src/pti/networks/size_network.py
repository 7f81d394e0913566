"""A small network from an image, or its latents, to a vector that sizes are predicted from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


class SizeNetwork(nn.Module):
    """Convolutions of stride 2, the mean of each cell of a grid, and optionally a hidden layer.

    The grid keeps positions, which sizes depend on: a mean over the whole image would lose them. Without
    convolutions it is a linear map, or a perceptron, of the reduced image or latents.

    Args:
        latent_channels: channels of the input: 1 for images, the autoencoder's for latents.
        channels: output channels of the convolutions; each halves the image. Empty = none.
        grid: cells of the grid along each edge.
        hidden: units of the hidden layer; 0 = none.
        dropout: share of the grid's values, and of the hidden units, that each training step leaves out.
        norm_num_groups: groups of the group normalisation; divides each of ``channels``.

    Attributes:
        width: length of the output vector.
    """

    def __init__(
        self,
        latent_channels: int = 1,
        channels: Sequence[int] = (16, 32, 32, 32),
        grid: int = 8,
        hidden: int = 0,
        dropout: float = 0.0,
        norm_num_groups: int = 4,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.downsampling = 2 ** len(channels)
        self.grid = grid
        layers: list[nn.Module] = []
        for before, after in zip((latent_channels, *channels), channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(norm_num_groups, after), nn.GELU()]
        self.convolutions = nn.Sequential(*layers)
        cells = (latent_channels, *channels)[-1] * grid**2
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout))
        if hidden:
            self.head.extend([nn.Linear(cells, hidden), nn.GELU(), nn.Dropout(dropout)])
        self.width = hidden or cells

    def forward(self, image: Tensor) -> Tensor:
        """Return the vector (B, width) of images or latents (B, latent_channels, h, w)."""
        return self.head(adaptive_avg_pool2d(self.convolutions(image), self.grid))
