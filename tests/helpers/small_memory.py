"""An adversarial VAE on a device whose memory is full above a batch size, without such a device."""

import sys
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from pti.modules.adversarial_vae import AdversarialVAE

SIZES = (7, 5)
"""Largest batch size that fits on each device."""


class SmallMemory(AdversarialVAE):
    """Run out of memory as torch does on a GPU, in the search (``python -m pti.train.batch_size``) only."""

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        if sys.argv[0].endswith("batch_size.py") and len(batch["image"]) > SIZES[int(sys.argv[2])]:
            assert self.discriminator_trains
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().training_step(batch, batch_idx)
