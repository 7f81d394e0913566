"""Training in several processes with equal weights."""

from __future__ import annotations

import itertools

from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from typing_extensions import override


class Replicas(DDPStrategy):
    """Lightning's DDP without torch's wrapper: the modules average their gradients themselves.

    The wrapper takes a module for one network. It would reduce the gradients of both networks of stage 1 in
    both of their backward passes, and search every loss for weights without gradients, as those of the
    discriminator at first. `ManualOptimization` reduces the gradients of each network once a step instead.
    """

    @override
    def configure_ddp(self) -> None:
        """Give all ranks the weights and buffers of rank 0."""
        assert self.model is not None
        for tensor in itertools.chain(self.model.parameters(), self.model.buffers()):
            distributed.broadcast(tensor.detach(), src=0)
