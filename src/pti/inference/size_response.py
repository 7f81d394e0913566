"""Measure by how much the bone in a denoiser's images follows the height that the denoiser is given."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pti.common.progress import track
from pti.common.randomness import sample_generator
from pti.data.layouts import Pair
from pti.data.splits import evenly_spaced
from pti.inference.devices import batched, device_of
from pti.inference.held_out import pairs_of_split, read_squares
from pti.inference.loaded import LoadedTranslator
from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.size_targets import relative_sizes

IMAGES = 32
"""Validation images that are translated; fewer are translated several times.

Ratios of one denoiser: 0.72 and 0.78 on 12 images with different noise, 0.70 on images of 40 other patients.
"""

RANKS = (0.125, 0.375, 0.625, 0.875)
"""Ranks of the heights given for each image: evenly spread, without rare ones."""


def measure_response(translator: LoadedTranslator, tick: Callable[[], Any] = lambda: None) -> float | None:
    """Measure the response of a denoiser to the height, on the device of its module.

    Args:
        translator: A model with ``size_condition``.
        tick: Called before each batch; may raise to stop.

    Returns:
        The change of the height in the images divided by the change of the height given: the slope of the
        regression within images. None if no two samples of a validation image contain bone.

    Raises:
        DataError: The data set of the training can't be used any more.
    """
    module: Any = translator.module
    pairs = pairs_of_split(translator.data, "val", str(translator.path))
    pairs = evenly_spaced(sorted(pairs, key=lambda pair: (pair.patient, pair.name)), IMAGES)
    if not pairs:
        return None
    ranks = RANKS * (IMAGES // len(pairs))
    given, generated = [], []
    batches = batched(pairs, translator.data["batch_size"])
    for batch in track(batches, f"{translator.path.name}: measuring the response to sizes"):
        samples = []
        for sample, rank in enumerate(ranks):
            tick()
            samples.append(_heights(module, batch, translator.data["image_size"], sample, rank))
        columns = np.array(samples)  # (K, 2, B)
        given += list(columns[:, 0].T)
        generated += list(columns[:, 1].T)
    return _slope_within(np.array(given), np.array(generated))


@torch.inference_mode()
def _heights(
    module: LatentDiffusion, pairs: Sequence[Pair], size: int, sample: int, rank: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights given to the denoiser and those in its images, standardised, (B,) each."""
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
    sizes = relative_sizes(translations, pixel, condition.measures[:1])[:, 0].to(device)
    generated = (sizes - condition.shift[0]) / condition.scale[0]
    return given.float().cpu().numpy(), generated.cpu().numpy()


def _slope_within(given: np.ndarray, generated: np.ndarray) -> float | None:
    """Regress (N, K) on (N, K), both minus their mean in each row; pairs with NaN are left out."""
    known = np.isfinite(generated)
    counts = np.maximum(known.sum(1, keepdims=True), 1)
    x, y = (np.where(known, values, 0.0) for values in (given, generated))
    x, y = (np.where(known, values - values.sum(1, keepdims=True) / counts, 0.0) for values in (x, y))
    variation = float(np.square(x).sum())
    return float((x * y).sum()) / variation if variation > 0 else None
