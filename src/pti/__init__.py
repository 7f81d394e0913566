"""pti: prediction of the edentulous jaw bone from a cross-section with the tooth, by latent diffusion.

``pti.load(ckpt)`` opens a trained model for arrays; everything else is a command, see ``pti --help``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pti.inference.api import Model

    __version__: str

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # here, so that `import pti` stays light

        return version("pti")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(ckpt: str | Path, device: str = "auto") -> Model:
    """Load the model of a checkpoint, ready for arrays in raw units.

    Args:
        ckpt: Path; or ``best``, ``last``, ``best:EXPERIMENT``, ``last:EXPERIMENT`` below ``outputs``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes the best available one.

    Raises:
        UsageError: The checkpoint or the device does not exist.
        CheckpointError: The file is damaged, foreign, or could execute code.
    """
    from pti.inference.api import Model  # here, so that `import pti` stays light

    return Model.load(ckpt, device)
