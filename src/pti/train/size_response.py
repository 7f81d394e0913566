"""Measure and store the response to sizes in the checkpoints of a finished training."""

import sys
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import DataError
from pti.inference.size_response import measure_response
from pti.networks.size_condition import MIN_RESPONSE, SizeCondition
from pti.runs.checkpoint import read
from pti.train.callbacks import AtomicCheckpointIO, StopSignals
from pti.train.finished import finished_models, stop_if_asked

KEY = "size_condition.response"


def store_response(folder: Path, device: torch.device, signals: StopSignals) -> None:
    """Measure the response to the height of ``best.ckpt`` and ``last.ckpt``, and store it in them.

    The files are replaced atomically: a run that is stopped here keeps its checkpoints, with a response of 1.

    Args:
        folder: Folder of the checkpoints.
        device: The device to compute on.
        signals: Source of stop signals.

    Raises:
        Interrupted: A signal was received.
    """
    for translator in finished_models(folder, device):
        module: Any = translator.module
        condition: SizeCondition = module.size_condition
        condition.response.fill_(1)
        try:
            ratio = measure_response(translator, stop_if_asked(signals))
        except DataError as error:
            print(f"Warning: the response to sizes is not measured: {error}.", file=sys.stderr, flush=True)
            return
        if ratio is None:
            continue
        condition.fit_response(ratio)
        content = read(translator.path)
        content["state_dict"][KEY] = condition.response.cpu()
        AtomicCheckpointIO().save_checkpoint(content, translator.path)
        _report(translator.path.name, ratio)


def _report(name: str, ratio: float) -> None:
    text = f"{name}: the bone in its images follows {ratio:.0%} of a change of the given height"
    if ratio >= MIN_RESPONSE:
        print(f"{text}; samples compensate for it.", flush=True)
    else:
        print(
            f"Warning: {text}. Samples compensate for at most {MIN_RESPONSE:.0%} and will differ too little. "
            "Train with data/augmentation=ridges, or on more patients.",
            file=sys.stderr,
            flush=True,
        )
