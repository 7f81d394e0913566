"""The gate of ``translate``: judges each input before, and each answer after, it is translated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pti.common.errors import DataError, UsageError
from pti.common.progress import track
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.inference.devices import batched, run_batches
from pti.inference.trust import REASON, TrustReference, answer_scores, input_scores
from pti.metrics.novelty import MIN_PATIENTS
from pti.runs.checkpoint import Checkpoint

_MAX_NAMED = 20


@dataclass(frozen=True)
class Judge:
    """Judges translated images by the scores of their inputs and of their answers.

    Attributes:
        reference: The checkpoint's reference.
        image_size: Edge of the square that the module works on, pixels.
        inputs: Name -> scores of the input.
    """

    reference: TrustReference
    image_size: int
    inputs: Mapping[str, Mapping[str, float]]

    def __call__(
        self, name: str, condition: np.ndarray, samples: Sequence[np.ndarray], has_bone: bool
    ) -> dict[str, Any]:
        """Return `pti.inference.trust.TRUST` and ``REASON`` of an image.

        Args:
            name: Name of the image.
            condition: (H, W) raw.
            samples: (H, W) raw.
            has_bone: Whether the median sample contains bone.
        """
        square, *answers = (resize.pad_and_resize(raw, self.image_size) for raw in (condition, *samples))
        scores = answer_scores(self.reference.distances, square, answers)
        return self.reference.judge({**self.inputs[name], **scores}, has_bone)


@dataclass(frozen=True)
class Gate:
    """Judges inputs.

    Attributes:
        reference: The checkpoint's reference.
        image_size: Edge of the square that the module works on, pixels.
        strict: Refuse inputs that are unlike the training's.
        batch_size: Images at a time.
    """

    reference: TrustReference
    image_size: int
    strict: bool = False
    batch_size: int = 32

    def open(self, module: Any, images: Sequence[InputImage], device: torch.device) -> Judge:
        """Compute the scores of all inputs.

        Args:
            module: The trained second stage.
            images: The inputs.
            device: The device to compute on.

        Raises:
            DataError: With ``strict``, some inputs are unlike the training's; the message names them.
        """
        batches = batched(images, self.batch_size)
        work = run_batches(lambda: module, self._scores, batches, [device])
        scores = [
            row for rows in track(work, "Comparing with the training", total=len(batches)) for row in rows
        ]
        inputs = dict(zip((image.name for image in images), scores, strict=True))
        if self.strict:
            self._refuse(inputs)
        return Judge(self.reference, self.image_size, inputs)

    def _scores(self, module: Any, images: Sequence[InputImage]) -> list[dict[str, float]]:
        squares = [resize.pad_and_resize(tif.read(image.path).pixels, self.image_size) for image in images]
        return input_scores(self.reference.distances, module, np.stack(squares))

    def _refuse(self, inputs: Mapping[str, Mapping[str, float]]) -> None:
        reasons = {name: self.reference.judge(scores)[REASON] for name, scores in inputs.items()}
        lines = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
        if not lines:
            return
        more = f"\n  and {len(lines) - _MAX_NAMED} more" if len(lines) > _MAX_NAMED else ""
        listed = "".join(f"\n  {line}" for line in lines[:_MAX_NAMED])
        raise DataError(
            f"{len(lines)} of {len(inputs)} inputs are unlike those of the training:{listed}{more}\n"
            "Leave them out, or omit strict=true to translate them with a mark."
        )


def open_gate(checkpoint: Checkpoint, strict: bool, batch_size: int) -> Gate | None:
    """Open the gate of a checkpoint; None, with a note, if it holds no reference.

    Args:
        checkpoint: Its content may lack the weights.
        strict: See `Gate`.
        batch_size: See `Gate`.

    Raises:
        CheckpointError: The reference is damaged.
        UsageError: There is none, and ``strict`` demands it.
    """
    reference = TrustReference.of_checkpoint(checkpoint.content, str(checkpoint.path))
    if reference is not None:
        return Gate(reference, checkpoint.config["data"]["image_size"], strict, batch_size)
    found = "the checkpoint has no reference that says which inputs are unlike its training"
    origin = f"Trainings store one at their end if there are {MIN_PATIENTS} or more validation patients."
    if strict:
        raise UsageError(f"strict=true: {found}. {origin} Omit strict=true, or choose another checkpoint.")
    print(f"Note: {found}. {origin}")
    return None
