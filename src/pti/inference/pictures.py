"""Draw the picture of a translated or reconstructed image, with its main values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pti.drawing.height_text import height_text
from pti.drawing.overlays import smooth_edge, tint
from pti.drawing.panels import LIGHT, diverging, grey, sequential, tissue_window, titled_row
from pti.inference.trust import REASON
from pti.metrics.calibration import INTERVAL
from pti.metrics.morphometry import bone_mask
from pti.metrics.outline_band import ImageBand, signed_distance
from pti.metrics.translation import mean_image, spread_image

MAX_SAMPLES = 4
SPREAD_SHARE = 0.1
"""Share of the data range at which a standard deviation has its full colour: one scale for all images."""
DIFFERENCE_SHARE = 0.1
"""Share of the data range at which a difference has its full colour."""

_BAND, _TARGET = (64, 170, 255), (120, 235, 130)
_BAND_OPACITY = 0.45


def draw_translation(
    name: str,
    condition: np.ndarray,
    samples: Sequence[np.ndarray],
    metrics: Mapping[str, Any],
    data_range: float,
    target: np.ndarray | None = None,
    band: ImageBand | None = None,
) -> Image.Image:
    """Draw condition | target | up to 4 samples | mean | standard deviation | band of the outline.

    Mean and standard deviation are drawn for two samples or more, the band with a calibration.

    Args:
        name: Name of the image.
        condition: (H, W) raw image; the grey window of all panels comes from its tissue.
        samples: (H, W) raw images.
        metrics: From `translation_metrics` and `height_interval` of `pti.metrics.translation`; with the
            verdict of `pti.inference.gate.Judge`, an image that is unlike the training's is marked.
        data_range: Data range of the set, raw units.
        target: (H, W) raw image; None = no target panel.
        band: The calibrated band; None = no such panel.
    """
    window = tissue_window(condition)
    panels = [("condition", grey(condition, window))]
    if target is not None:
        panels.append(("target", grey(target, window)))
    panels += [(f"sample {number}", grey(raw, window)) for number, raw in enumerate(samples[:MAX_SAMPLES])]
    color_bar = None
    if len(samples) > 1:
        limit = SPREAD_SHARE * data_range
        panels.append((f"mean of {len(samples)}", grey(mean_image(samples), window)))
        panels.append(("standard deviation", sequential(spread_image(samples), limit)))
        color_bar = (len(panels) - 1, "0", f"{limit:.3g}")
    if band is not None:
        shown = grey(mean_image(samples), window)
        panels.append((f"{100 * band.level:.0f} % band of outline", draw_band(shown, band, target)))
    text = f"bone height {metrics['condition_height_mm']:.1f} → {predicted_height(metrics)}"
    if target is not None:
        image = "mean: " if len(samples) > 1 else ""
        text += f"; target {metrics['target_height_mm']:.1f} mm"
        text += f"; {image}PSNR {metrics['psnr']:.1f} dB, SSIM {metrics['ssim']:.3f}"
    if band is not None:
        text += f"\n{band_text(band, target is not None)}"
    warning = f"unlike the training: {metrics[REASON]}" if metrics.get(REASON) else ""
    return titled_row(panels, f"{name}\n{text}", color_bar, lambda place: sequential(place, 1), warning)


def band_text(band: ImageBand, has_target: bool) -> str:
    """Say in two lines what the band contains, how wide it is, and what the lines in it are."""
    level = f"{100 * band.level:.0f} %"
    text = f"blue band: contains on average {level} of the bone's new outline"
    text += " (where it differs from the condition's)"
    width = "" if np.isnan(band.width_mm) else f"band {band.width_mm:.1f} mm wide; "
    lines = f"{width}white: predicted outline{'; green: target' if has_target else ''}"
    if not band.outline.mask.any():
        lines = "samples without bone leave the outline open"
    return f"{text}\n{lines}"


def draw_band(pixels: np.ndarray, band: ImageBand, target: np.ndarray | None = None) -> np.ndarray:
    """Draw the band in blue, the mean outline in white and the target's outline in green over a picture.

    Args:
        pixels: (H, W, 3) uint8, the picture.
        band: The band.
        target: (H, W) raw image; None = unknown.
    """
    outline, pixel_mm = band.outline, band.outline.pixel_mm
    inside = smooth_edge(outline.excess(band.factor) / pixel_mm)
    shown = tint(pixels, _BAND_OPACITY * inside, _BAND)
    if target is not None:
        shown = tint(shown, _line(signed_distance(bone_mask(target), pixel_mm) / pixel_mm), _TARGET)
    return tint(shown, _line(outline.mean / pixel_mm), LIGHT)


def _line(distance: np.ndarray) -> np.ndarray:
    """Return the opacity of a line of one pixel where a signed distance (H, W), pixels, is 0."""
    return smooth_edge(np.abs(distance) - 0.5)


def predicted_height(metrics: Mapping[str, Any]) -> str:
    """Format the predicted height of an image, with its interval or the range of its samples."""
    heights = [sample["bone_height_mm"] for sample in metrics["samples"]]
    level, low, high = INTERVAL
    interval = (metrics[level], metrics[low], metrics[high]) if level in metrics else None
    return height_text(metrics["bone_height_mm"], heights, interval)


def draw_reconstruction(
    name: str,
    original: np.ndarray,
    reconstruction: np.ndarray,
    metrics: Mapping[str, Any],
    data_range: float,
) -> Image.Image:
    """Draw original | reconstruction | reconstruction − original.

    Args:
        name: Name of the image.
        original: (H, W) raw image; the grey window of both images comes from its tissue.
        reconstruction: (H, W) raw image.
        metrics: ``psnr``, ``ssim``, ``bone_height_mm`` and ``reconstructed_bone_height_mm``.
        data_range: Data range of the set, raw units.
    """
    window = tissue_window(original)
    limit = DIFFERENCE_SHARE * data_range
    panels = [
        ("original", grey(original, window)),
        ("reconstruction", grey(reconstruction, window)),
        ("reconstruction − original", diverging(reconstruction - original, limit)),
    ]
    heights = "{bone_height_mm:.2f} → {reconstructed_bone_height_mm:.2f} mm".format(**metrics)
    text = f"PSNR {metrics['psnr']:.1f} dB, SSIM {metrics['ssim']:.3f}, bone height {heights}"
    return titled_row(panels, f"{name}\n{text}", (2, f"−{limit:.3g}", f"+{limit:.3g}"))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG beside ``path`` and rename it into place, so that no reader sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    picture.save(partial, "PNG")
    partial.replace(path)
