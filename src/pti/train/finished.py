"""The checkpoints of a finished second stage, to which measurements are added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from pti.inference.loaded import LoadedTranslator, open_predictor, predicts_sizes
from pti.train.callbacks import Interrupted, StopSignals

NAMES = ("best.ckpt", "last.ckpt")


def finished_models(folder: Path, device: torch.device) -> Iterator[LoadedTranslator]:
    """Open ``best.ckpt`` and ``last.ckpt``, those that exist, with their modules on a device.

    Args:
        folder: Folder of the checkpoints.
        device: The device to compute on.
    """
    for path in (folder / name for name in NAMES):
        if path.is_file():
            translator = open_predictor(path)
            assert not predicts_sizes(translator)
            module: Any = translator.module
            module.to(device)
            yield translator


def stop_if_asked(signals: StopSignals) -> Callable[[], None]:
    """Return a function that raises `Interrupted` once a signal was received."""

    def check() -> None:
        if signals.received:
            raise Interrupted(signals.received)

    return check
