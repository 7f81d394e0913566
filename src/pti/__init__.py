"""pti: predict the toothless jaw bone from a cross-section with the tooth, by latent diffusion.

``pti.load(ckpt)`` opens a trained model for arrays; everything else is a command, see ``pti --help``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pti.inference.api import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(ckpt: str | Path, device: str = "auto") -> Model:
    """The model of a checkpoint, ready for arrays in raw units.

    Args:
        ckpt: a path; or ``best``, ``last``, ``best:EXPERIMENT``, ``last:EXPERIMENT``, found below
            ``outputs``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes the best there is.

    Raises:
        UsageError: there is no such checkpoint, or no such device.
        CheckpointError: the file is damaged, isn't ours, or could execute code.
    """
    from pti.inference.api import Model  # here, so that `import pti` stays light

    return Model.load(ckpt, device)
