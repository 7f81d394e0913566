"""A translator without a network: it removes a random part of the bone's top and adds noise."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.data import resize
from pti.data.normalization import RangeNormalization
from pti.diffusion.samplers import Sampler, ddim


class TinyTranslator(nn.Module):
    """Implements `pti.modules.protocols.Translator` and records the sizes of its batches in ``calls``."""

    deterministic = False
    spreads_samples = False

    def __init__(self) -> None:
        super().__init__()
        self.normalization = RangeNormalization()
        self.own = {"sampler": partial(ddim, eta=0.5), "steps": 5, "guidance_scale": 1.0}
        self.calls: list[int] = []

    def resolve_sampling(
        self, sampler: Sampler | None, steps: int | None, guidance_scale: float | None
    ) -> dict[str, Any]:
        settings = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
        if self.deterministic:
            return settings
        if steps is not None and steps > 1000:
            raise UsageError(f"steps={steps}: too many.")
        return {key: self.own[key] if value is None else value for key, value in settings.items()}

    def translate(self, raw: Tensor, generators: Sequence[torch.Generator], **settings: Any) -> Tensor:
        images = settings.get("images")
        raw = raw if images is None else raw[images]
        self.calls.append(len(raw))
        translations = []
        for image, generator in zip(raw, generators, strict=True):
            first_row = torch.nonzero((image != 0).any(-1)[0])[0].item()
            lost_rows = int(torch.randint(2, 7, (), generator=generator))
            noisy = image * (1 + 0.02 * torch.randn(image.shape, generator=generator))
            noisy[:, : int(first_row) + lost_rows] = 0
            translations.append(noisy)
        return torch.stack(translations)

    def at_own_size(self, raw: np.ndarray, translations: np.ndarray) -> np.ndarray:
        height, width = raw.shape
        return resize.restore_size(translations, (height, width))
