"""A translator without a network: takes the bone's top off, by what the generator says, and adds noise."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.data import resize
from pti.data.normalization import RangeNormalization
from pti.diffusion.paths import ScaledLinear
from pti.diffusion.samplers import ddim


class TinyTranslator(nn.Module):
    """Offers what second-stage modules offer."""

    deterministic = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.normalization = RangeNormalization()
        self.path, self.condition_dropout = ScaledLinear(), 0.0
        self.sampler, self.sampling_steps, self.guidance_scale = partial(ddim, eta=0.5), 5, 1.0
        self.calls: list[int] = []

    def translate(self, raw: Tensor, generators: Sequence[torch.Generator], **settings: Any) -> Tensor:
        """See `pti.modules.translation.Translation.translate`."""
        assert settings["steps"] is not None
        self.calls.append(len(raw))
        found = []
        for image, generator in zip(raw, generators, strict=True):
            rows = torch.nonzero((image != 0).any(-1)[0])[0].item()
            lost = int(torch.randint(2, 7, (), generator=generator))
            noisy = image * (1 + 0.02 * torch.randn(image.shape, generator=generator))
            noisy[:, : int(rows) + lost] = 0
            found.append(noisy)
        return torch.stack(found)

    def at_own_size(self, raw: np.ndarray, found: np.ndarray) -> np.ndarray:
        """See `pti.modules.translation.Translation.at_own_size`."""
        height, width = raw.shape
        return resize.restore_size(found, (height, width))
