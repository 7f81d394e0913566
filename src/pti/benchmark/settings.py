"""Settings that every suite takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Experiment:
    """An experiment's resolved configuration, and the data module and module built from it."""

    config: dict[str, Any]
    data: Any
    module: Any


@dataclass(frozen=True)
class SuiteSettings:
    """Settings of a suite.

    Attributes:
        scratch: Folder for temporary files; a second process finds there what the first one prepared.
        build: Builds an experiment from its name and overrides.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        images: Images or pairs per run, or None for the suite's own number.
        image_size: Edge of the square images, pixels.
        batch_size: Images or pairs of a training step; None = the suite's own number for the device.
        steps: Training steps per run; None = the suite's own number for the device.
        ckpt: Trained second stage for ``translate`` and ``startup``; None = an untrained one.
        split: Split of the checkpoint's data set whose images are translated.
        translations: Images that are translated at a time.
        plain_steps: Steps of the 1000 of the plain recipe that are timed.
    """

    scratch: Path
    build: Callable[[str, Sequence[str]], Experiment]
    accelerator: str = "cpu"
    images: int | None = None
    image_size: int = 256
    batch_size: int | None = None
    steps: int | None = None
    ckpt: str | None = None
    split: str = "val"
    translations: int = 8
    plain_steps: int = 10

    @property
    def device(self) -> torch.device:
        """The first device of the accelerator."""
        from pti.inference.devices import choose_devices

        return choose_devices(self.accelerator, 1)[0]

    @property
    def on_gpu(self) -> bool:
        """True if the work runs on a GPU."""
        return self.device.type != "cpu"

    def number_of_images(self, default: int) -> int:
        """Return ``images``, or the suite's own number."""
        return default if self.images is None else self.images
