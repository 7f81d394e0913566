"""A picture of one image's translation: condition, target, samples, their mean and how they vary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pti.drawing.height_text import height_in_words
from pti.drawing.panels import grey, sequential, tissue_window, titled_row
from pti.metrics.translation import mean_image, spread_image

MOST_SAMPLES = 4
SPREAD_SHARE = 0.1
"""Share of the data range at which a standard deviation gets its full colour; one scale for all images."""


def draw_translation(
    name: str,
    condition: np.ndarray,
    samples: Sequence[np.ndarray],
    figures: Mapping[str, Any],
    data_range: float,
    target: np.ndarray | None = None,
) -> Image.Image:
    """Condition | target | up to 4 samples | mean | standard deviation, the last two of several samples only.

    Args:
        name: of the image.
        condition: (H, W) raw image; its tissue makes the window of grey of all panels.
        samples: (H, W) raw images.
        figures: from `pti.metrics.translation`: `translation_figures`, and `height_interval` if known.
        data_range: of the data set, raw units.
        target: (H, W) raw image; None leaves its panel out.
    """
    window = tissue_window(condition)
    panels = [("condition", grey(condition, window))]
    if target is not None:
        panels.append(("target", grey(target, window)))
    shown = samples[:MOST_SAMPLES]
    panels += [(f"sample {number}", grey(sample, window)) for number, sample in enumerate(shown)]
    bar = None
    if len(samples) > 1:
        limit = SPREAD_SHARE * data_range
        panels.append((f"mean of {len(samples)}", grey(mean_image(samples), window)))
        panels.append(("standard deviation", sequential(spread_image(samples), limit)))
        bar = (len(panels) - 1, "0", f"{limit:.3g}")
    return titled_row(panels, f"{name}\n{_in_words(figures)}", bar, lambda place: sequential(place, 1))


def _in_words(figures: Mapping[str, Any]) -> str:
    words = f"bone height {figures['condition_height_mm']:.1f} → {height_in_words(figures)}"
    if "target_height_mm" not in figures:
        return words
    words += f"; target {figures['target_height_mm']:.1f} mm"
    of_what = "mean: " if len(figures["samples"]) > 1 else ""
    return words + f"; {of_what}PSNR {figures['psnr']:.1f} dB, SSIM {figures['ssim']:.3f}"
