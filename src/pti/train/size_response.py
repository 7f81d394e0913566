"""Measure and store the response to sizes in the checkpoints of a finished training."""

import sys
from pathlib import Path
from typing import Any

import torch

from pti.common.errors import DataError
from pti.inference.size_response import measure_response
from pti.networks.size_condition import MAX_OFFSET, MIN_RESPONSE, SizeCondition
from pti.runs.checkpoint import read
from pti.train.callbacks import AtomicCheckpointIO, StopSignals
from pti.train.finished import finished_models, stop_if_asked

KEYS = ("response", "offset")
"""Buffers of `SizeCondition` that are measured."""


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
        condition.fit_response(1.0)
        try:
            measured = measure_response(translator, stop_if_asked(signals))
        except DataError as error:
            print(f"Warning: the response to sizes is not measured: {error}.", file=sys.stderr, flush=True)
            return
        if measured is None:
            continue
        condition.fit_response(*measured)
        content = read(translator.path)
        content["state_dict"] |= {f"size_condition.{key}": condition.get_buffer(key).cpu() for key in KEYS}
        AtomicCheckpointIO().save_checkpoint(content, translator.path)
        _report(translator.path.name, *measured)


def _report(name: str, ratio: float, offset: float) -> None:
    higher = f"{abs(offset):.2f} standard deviations too {'high' if offset > 0 else 'low'}"
    text = (
        f"{name}: the bone in its images follows {ratio:.0%} of a change of the given height, and is on "
        f"average {higher if offset else 'as high as given'}"
    )
    if ratio >= MIN_RESPONSE and abs(offset) <= MAX_OFFSET:
        print(f"{text}; samples compensate for it.", flush=True)
    else:
        print(
            f"Warning: {text}. Samples can't compensate for all of it, and their heights will be wrong. "
            "Train with data/augmentation=ridges, or on more patients.",
            file=sys.stderr,
            flush=True,
        )
