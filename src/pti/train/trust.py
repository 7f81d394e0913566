"""The end of a stage 2: store in its checkpoints what inputs and answers look like."""

import sys
from pathlib import Path

import torch

from pti.common.errors import DataError
from pti.inference.trust_fit import TrustFit
from pti.runs.checkpoint import read
from pti.train.callbacks import AtomicCheckpointIO, StopSignals
from pti.train.finished import finished_models, stop_if_asked


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
    distances = None
    for translator in finished_models(folder, device):
        fit = TrustFit(images, translator.data["batch_size"], stop_if_asked(signals))
        try:
            reference = fit(translator, distances)
        except DataError as error:
            effect = "translate can't mark images that are unlike the training"
            print(f"Warning: {effect}, because no reference is stored: {error}.", file=sys.stderr, flush=True)
            return
        distances = reference.distances
        content = read(translator.path) | {"trust": reference.as_plain()}
        AtomicCheckpointIO().save_checkpoint(content, translator.path)
