"""Pictures of an evaluation: worst, median and best slices; samples beside their nearest training images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pti.data import tif
from pti.drawing.height_text import height_text
from pti.drawing.outlines import common_crop, outlined
from pti.drawing.panels import data_uri, diverging, grey, tissue_window, titled_row
from pti.evaluate.result import AuditedImages, Evaluation
from pti.evaluate.scores import Scores
from pti.metrics.calibration import valid_interval
from pti.metrics.changed_region import GHOST, changed_region
from pti.metrics.morphometry import bone_mask

_GROUPS = {"Worst": 4, "Median": 2, "Best": 2}
MEDIAN_GHOST = "Median ghost"
_CLOSEUPS = {"Strongest ghost": 3, MEDIAN_GHOST: 2, "Weakest ghost": 1}
_CLOSEUP_SAMPLES = 3
_DIFFERENCE_SHARE = 0.1  # of the data range, at which a difference has its full colour
_PAIRS = 4
_SCALE_MM = 5


def gallery(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return groups of slices by the error of their bone height, if possible of different patients."""
    if not evaluation.scores.metrics:
        return []
    return [
        {"title": title, "cases": [_case(evaluation, index) for index in indices]}
        for title, indices in _chosen(evaluation.scores, np.abs(evaluation.scores.error("height")), _GROUPS)
    ]


def closeups(evaluation: Evaluation) -> dict[str, list[Image.Image]]:
    """Draw the changed tissue of some slices, in groups by the ghost index; empty without changed regions."""
    scores = evaluation.scores
    if GHOST not in scores.metrics or scores.method not in evaluation.measurements.cases[0].predictions:
        return {}
    return {
        title: [_closeup(evaluation, index) for index in indices]
        for title, indices in _chosen(scores, scores.metrics[GHOST].mean(axis=1), _CLOSEUPS)
    }


def _closeup(evaluation: Evaluation, index: int) -> Image.Image:
    """Draw a slice's changed tissue: condition | true image | samples | difference of the first sample."""
    measurements, scores = evaluation.measurements, evaluation.scores
    case, limit = measurements.cases[index], _DIFFERENCE_SHARE * measurements.data_range
    assert case.condition is not None
    files = (case.condition, case.target, *case.predictions[scores.method][:_CLOSEUP_SAMPLES])
    condition, true, *samples = (tif.read(file).pixels for file in files)
    crop = common_crop([changed_region(condition, true) & (true != 0)])
    window = tissue_window(true)
    titles = [f"sample {number}" for number in range(len(samples))] if len(samples) > 1 else ["predicted"]
    greys = zip(("condition", "true", *titles), (condition, true, *samples), strict=True)
    panels = [(title, grey(raw[crop], window)) for title, raw in greys]
    panels.append((f"{titles[0]} − true", diverging((samples[0] - true)[crop], limit)))
    ghost, amplitude, correlation = (
        f"{scores.metrics[name][index].mean():.2f}".replace("-", "−")
        for name in (GHOST, "changed_texture_amplitude", "changed_texture_correlation")
    )
    text = f"ghost index {ghost}, texture amplitude {amplitude}, correlation {correlation}"
    return titled_row(panels, f"{case.name}\n{text}", (len(panels) - 1, f"−{limit:.3g}", f"+{limit:.3g}"))


def _chosen(scores: Scores, values: np.ndarray, counts: Mapping[str, int]) -> list[tuple[str, list[int]]]:
    """Choose slices with the highest, median and lowest values, if possible of different patients.

    Args:
        scores: The scores.
        values: (N,); slices with NaN are left out.
        counts: Title -> number of slices, for the three groups.

    Returns:
        Title and indices of each group that has any.
    """
    order = [int(index) for index in np.argsort(-values, kind="stable") if not np.isnan(values[index])]
    middle = len(order) // 2
    from_middle = sorted(range(len(order)), key=lambda place: abs(place - middle))
    highest, median, lowest = counts
    orders = {highest: order, lowest: order[::-1], median: [order[place] for place in from_middle]}
    taken: list[int] = []
    chosen = {}
    for title, candidates in orders.items():
        free = [index for index in candidates if index not in taken]
        chosen[title] = spread_over_patients(scores.patients, free, counts[title])
        taken += chosen[title]
    return [(title, chosen[title]) for title in counts if chosen[title]]


def spread_over_patients(patients: Sequence[str], order: Sequence[int], count: int) -> list[int]:
    """Return the first indices of different patients, filled up with others if there are too few patients."""
    seen: dict[str, int] = {}
    for index in order:
        seen.setdefault(patients[index], index)
    first = list(seen.values())[:count]
    return first + [index for index in order if index not in first][: count - len(first)]


def _case(evaluation: Evaluation, index: int) -> dict[str, Any]:
    scores, case = evaluation.scores, evaluation.measurements.cases[index]
    scale = (_SCALE_MM, float(scores.pixel_mm[index]))
    files = case.predictions.get(scores.method) or ([case.condition] if case.condition else [])
    heights = scores.predicted["height"][index]
    median = int(np.argsort(heights, kind="stable")[(len(heights) - 1) // 2])
    true = tif.read(case.target).pixels
    predicted = tif.read(files[median]).pixels if files else true
    outlines = {"true": bone_mask(true), "predicted": bone_mask(predicted)}
    condition = None if case.condition is None else tif.read(case.condition).pixels
    crop = common_crop([*outlines.values(), *([] if condition is None else [bone_mask(condition)])])
    window, pictures = tissue_window(true), {}
    if condition is not None:
        pictures["condition"] = outlined(condition, window, {}, crop, f"condition of {case.name}", scale)
    pictures["true"] = outlined(true, window, outlines, crop, f"true image of {case.name}", scale)
    title = "predicted" if scores.samples < 2 else "predicted, median sample"
    pictures[title] = outlined(predicted, window, outlines, crop, f"prediction of {case.name}", scale)
    rows = evaluation.intervals.get("height", ())
    corrections = {row.level: row.correction for row in rows if row.correction is not None}
    valid = valid_interval(heights, corrections, scores.evenly_spread)
    interval = None if valid is None else (valid.level, valid.low, valid.high)
    return {
        "name": case.name,
        "patient": case.patient,
        "pictures": pictures,
        "true": f"{scores.true['height'][index]:.1f} mm",
        "predicted": height_text(scores.point_prediction("height")[index], heights, interval),
        "error": f"{scores.error('height')[index]:+.2f} mm".replace("-", "−"),
        "dice": f"{scores.metrics['dice'][index].mean():.3f}",
        "ssim": f"{scores.metrics['ssim'][index].mean():.3f}",
    }


def closest_pairs(audited: AuditedImages) -> list[dict[str, Any]]:
    """Return pictures of the samples closest to a training image, beside that image."""
    audit = audited.audit
    pairs = []
    for index in np.argsort(audit.samples.closeness, kind="stable")[:_PAIRS]:
        nearest = int(audit.samples.index[index])
        files = (audited.files[index], audited.training_files[nearest])
        sample, training = (tif.read(file).pixels for file in files)
        window = tissue_window(training)
        pairs.append(
            {
                "sample": audited.samples[index],
                "training": audited.training[nearest],
                "pictures": [
                    data_uri(grey(raw[common_crop([bone_mask(raw)])], window)) for raw in (sample, training)
                ],
                "closeness": f"{audit.samples.closeness[index]:.2f}",
                "flagged": bool(audit.flagged[index]),
            }
        )
    return pairs
