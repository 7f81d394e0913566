"""The end of a stage 2: store in its checkpoints what inputs and answers look like."""

import sys
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import DataError
from pti.inference.loaded import open_predictor, predicts_sizes
from pti.inference.trust_fit import TrustFit
from pti.runs.checkpoint import read
from pti.train.callbacks import AtomicCheckpointIO, Interrupted, StopSignals

NAMES = ("best.ckpt", "last.ckpt")


def store_trust(folder: Path, device: torch.device, images: int, signals: StopSignals) -> None:
    """Fit the reference for trust to ``best.ckpt`` and ``last.ckpt``, and store it in them.

    The files are replaced atomically: a run that is stopped here keeps its checkpoints, without a reference.

    Args:
        folder: Folder of the checkpoints.
        device: The device to compute on.
        images: Largest number of validation images to translate.
        signals: Source of stop signals.

    Raises:
        Interrupted: A signal was received.
    """

    def stop_if_asked() -> None:
        if signals.received:
            raise Interrupted(signals.received)

    distances = None
    for path in (folder / name for name in NAMES):
        if not path.is_file():
            continue
        translator = open_predictor(path)
        assert not predicts_sizes(translator)
        module: Any = translator.module
        module.to(device)
        fit = TrustFit(images, translator.data["batch_size"], stop_if_asked)
        try:
            reference = fit(translator, distances)
        except DataError as error:
            print(f"Warning: no reference for trust is stored: {error}.", file=sys.stderr, flush=True)
            return
        distances = reference.distances
        AtomicCheckpointIO().save_checkpoint(read(path) | {"trust": reference.as_plain()}, path)
