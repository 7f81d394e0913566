"""Measure how the height of the bone in a denoiser's images depends on the height that it is given."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pti.common.progress import track
from pti.common.randomness import sample_generator
from pti.data import tif
from pti.data.layouts import Pair
from pti.data.splits import evenly_spaced
from pti.inference.devices import batched, device_of
from pti.inference.held_out import pairs_of_split, read_squares
from pti.inference.loaded import LoadedTranslator
from pti.metrics.bone_agreement import find_bone
from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.size_targets import relative_sizes

IMAGES = 32
"""Validation images that are translated; fewer are translated several times.

Ratios of one denoiser: 0.72 and 0.78 on 12 images with different noise, 0.70 on images of 40 other patients.
"""

RANKS = (0.125, 0.375, 0.625, 0.875)
"""Ranks of the heights given for each image: evenly spread, without rare ones."""


class SizeResponse(NamedTuple):
    """Response of a denoiser to the height.

    Attributes:
        ratio: Change of the height in the images divided by the change of the height given: the slope of the
            regression within images.
        offset: Mean height of the images at their own size minus the mean height given, standardised;
            differences that the true images have between both sizes are left out. Shrunk by its standard
            error (James and Stein 1961), so that chance doesn't move the heights: 0 if it isn't larger.
    """

    ratio: float
    offset: float


class _Heights(NamedTuple):
    """Standardised heights of samples of B images, (B,) each."""

    given: np.ndarray
    generated: np.ndarray
    at_own_size: np.ndarray


def measure_response(
    translator: LoadedTranslator, tick: Callable[[], Any] = lambda: None
) -> SizeResponse | None:
    """Measure the response of a denoiser to the height, on the device of its module.

    Args:
        translator: A model with ``size_condition``.
        tick: Called before each batch; may raise to stop.

    Returns:
        The response; None if no two samples of a validation image contain bone.

    Raises:
        DataError: The data set of the training can't be used any more.
    """
    module: Any = translator.module
    pairs = pairs_of_split(translator.data, "val", str(translator.path))
    pairs = evenly_spaced(sorted(pairs, key=lambda pair: (pair.patient, pair.name)), IMAGES)
    if not pairs:
        return None
    ranks = RANKS * (IMAGES // len(pairs))
    columns: list[np.ndarray] = []
    reference: list[np.ndarray] = []
    batches = batched(pairs, translator.data["batch_size"])
    for batch in track(batches, f"{translator.path.name}: measuring the response to sizes"):
        samples = []
        for sample, rank in enumerate(ranks):
            tick()
            samples.append(_heights(module, batch, translator.data["image_size"], sample, rank))
        columns.append(np.array(samples))  # (K, 3, B)
        reference.append(_change_of_true_heights(module, batch, translator.data["image_size"]))
    given, generated, at_own_size = (part.T for part in np.concatenate(columns, axis=2).swapaxes(0, 1))
    ratio = _slope_within(given, generated)
    if ratio is None:
        return None
    deviations = _row_means(at_own_size - given) - np.concatenate(reference)
    return SizeResponse(ratio, _shrunk_mean(deviations, [pair.patient or pair.name for pair in pairs]))


@torch.inference_mode()
def _heights(module: LatentDiffusion, pairs: Sequence[Pair], size: int, sample: int, rank: float) -> _Heights:
    """Return the heights given to the denoiser and those in its images."""
    condition = module.size_condition
    assert condition is not None
    device, ranks = device_of(module), [rank] * len(pairs)
    raw = torch.from_numpy(read_squares(pairs, "condition", size))[:, None].to(device)
    images = module.normalization.normalize(raw, module.normalization.statistics(raw))

    def generators() -> list[torch.Generator]:
        return [sample_generator(0, pair.name, sample) for pair in pairs]

    given = condition.draw(images, generators(), ranks)[:, 0]
    translations = module.translate(raw, generators(), ranks=ranks)
    pixel = torch.ones(len(pairs))  # lengths relative to the edge don't depend on it
    sizes = relative_sizes(translations, pixel, condition.measures[:1])[:, 0].numpy()
    raws = [
        module.at_own_size(tif.read(pair.files["condition"]).pixels, own.cpu().numpy())[0]
        for pair, own in zip(pairs, translations, strict=True)
    ]
    return _Heights(
        given.float().cpu().numpy(), _standardized(module, sizes), _standardized(module, _own_heights(raws))
    )


def _change_of_true_heights(module: LatentDiffusion, pairs: Sequence[Pair], size: int) -> np.ndarray:
    """Return the heights of targets at their own size minus those at the network's, standardised, (B,)."""
    own = _own_heights([tif.read(pair.files["target"]).pixels for pair in pairs])
    squares = _own_heights(list(read_squares(pairs, "target", size)))
    return _standardized(module, own) - _standardized(module, squares)


def _own_heights(raws: Sequence[np.ndarray]) -> np.ndarray:
    """Return the heights of the bones in raw images (H, W), relative to the longer edge; NaN without bone."""
    return np.array([find_bone(raw, 1.0).lengths["height"] / max(raw.shape) for raw in raws])


def _standardized(module: LatentDiffusion, sizes: np.ndarray) -> np.ndarray:
    condition = module.size_condition
    assert condition is not None
    return (sizes - float(condition.shift[0])) / float(condition.scale[0])


def _row_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each row, NaN without any."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(1), known.sum(1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _shrunk_mean(values: np.ndarray, patients: Sequence[str]) -> float:
    """Return the mean over patients of the finite values (N,), shrunk towards 0 by its standard error."""
    known, groups = np.isfinite(values), np.asarray(patients)
    means = np.array([values[known & (groups == one)].mean() for one in np.unique(groups[known])])
    if len(means) < 2:
        return 0.0
    mean, error = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(len(means))
    return mean * max(0.0, 1 - (error / mean) ** 2) if mean else 0.0


def _slope_within(given: np.ndarray, generated: np.ndarray) -> float | None:
    """Regress (N, K) on (N, K), both minus their mean in each row; pairs with NaN are left out."""
    known = np.isfinite(generated)
    counts = np.maximum(known.sum(1, keepdims=True), 1)
    x, y = (np.where(known, values, 0.0) for values in (given, generated))
    x, y = (np.where(known, values - values.sum(1, keepdims=True) / counts, 0.0) for values in (x, y))
    variation = float(np.square(x).sum())
    return float((x * y).sum()) / variation if variation > 0 else None
