"""Pictures of an evaluation: worst, median and best slices; samples beside their nearest training images."""

from typing import Any

import numpy as np

from pti.data import tif
from pti.drawing.height_text import height_text
from pti.drawing.outlines import common_crop, outlined
from pti.drawing.panels import data_uri, grey, tissue_window
from pti.evaluate.result import CopiedImages, Evaluation
from pti.evaluate.scores import Scores
from pti.metrics.calibration import valid_interval
from pti.metrics.morphometry import bone_mask

_GROUPS = {"Worst": 4, "Median": 2, "Best": 2}
_PAIRS = 4
_SCALE_MM = 5


def gallery(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Groups of slices by the error of their bone height; each patient once, if there are enough."""
    if not evaluation.scores.figures:
        return []
    return [
        {"title": title, "cases": [_case(evaluation, index) for index in indices]}
        for title, indices in _chosen(evaluation.scores).items()
        if indices
    ]


def _chosen(scores: Scores) -> dict[str, list[int]]:
    error = np.abs(scores.error("height"))
    order = [int(index) for index in np.argsort(-error, kind="stable") if not np.isnan(error[index])]
    middle = len(order) // 2
    by_distance = sorted(range(len(order)), key=lambda place: abs(place - middle))
    ways = {"Worst": order, "Best": order[::-1], "Median": [order[place] for place in by_distance]}
    taken: set[int] = set()
    found = {}
    for title in ("Worst", "Best", "Median"):
        found[title] = _spread(scores, [index for index in ways[title] if index not in taken], _GROUPS[title])
        taken |= set(found[title])
    return {title: found[title] for title in _GROUPS}


def _spread(scores: Scores, order: list[int], count: int) -> list[int]:
    """The first so many of different patients; filled up with others where there are too few."""
    seen: dict[str, int] = {}
    for index in order:
        seen.setdefault(scores.patients[index], index)
    first = list(seen.values())[:count]
    return first + [index for index in order if index not in first][: count - len(first)]


def _case(evaluation: Evaluation, index: int) -> dict[str, Any]:
    scores, case = evaluation.scores, evaluation.evaluated.cases[index]
    edge = float(scores.pixel_mm[index])
    files = case.predictions.get(scores.method) or ([case.condition] if case.condition else [])
    heights = scores.predicted["height"][index]
    shown = int(np.argsort(heights, kind="stable")[(len(heights) - 1) // 2])
    true = tif.read(case.target).pixels
    predicted = tif.read(files[shown]).pixels if files else true
    masks = {"true": bone_mask(true), "predicted": bone_mask(predicted)}
    pictures = {}
    condition = None if case.condition is None else tif.read(case.condition).pixels
    crop = common_crop([*masks.values(), *([] if condition is None else [bone_mask(condition)])])
    window = tissue_window(true)
    if condition is not None:
        pictures["condition"] = outlined(
            condition, window, {}, crop, f"condition of {case.name}", (_SCALE_MM, edge)
        )
    both = {"true": masks["true"], "predicted": masks["predicted"]}
    pictures["true"] = outlined(true, window, both, crop, f"true image of {case.name}", (_SCALE_MM, edge))
    words = "predicted" if scores.samples < 2 else "predicted, median sample"
    pictures[words] = outlined(predicted, window, both, crop, f"prediction of {case.name}", (_SCALE_MM, edge))
    rows = evaluation.intervals.get("height", ())
    corrections = {row.level: row.correction for row in rows if row.correction is not None}
    valid = valid_interval(heights, corrections)
    interval = None if valid is None else (valid.level, valid.low, valid.high)
    return {
        "name": case.name,
        "patient": case.patient,
        "pictures": pictures,
        "true": f"{scores.true['height'][index]:.1f} mm",
        "predicted": height_text(scores.answer("height")[index], heights, interval),
        "error": f"{scores.error('height')[index]:+.2f} mm".replace("-", "−"),
        "dice": f"{scores.figures['dice'][index].mean():.3f}",
        "ssim": f"{scores.figures['ssim'][index].mean():.3f}",
    }


def copies(copied: CopiedImages) -> dict[str, Any]:
    """The samples that come nearest to a training image, beside it."""
    audit = copied.audit
    order = np.argsort(audit.samples.closeness, kind="stable")[:_PAIRS]
    pairs = []
    for index in order:
        nearest = int(audit.samples.index[index])
        sample, training = (
            tif.read(file).pixels for file in (copied.files[index], copied.training_files[nearest])
        )
        window = tissue_window(training)
        pairs.append(
            {
                "sample": copied.samples[index],
                "training": copied.training[nearest],
                "pictures": [data_uri(_cut_out(image, window)) for image in (sample, training)],
                "closeness": f"{audit.samples.closeness[index]:.2f}",
                "flagged": bool(audit.flagged[index]),
            }
        )
    return {
        "space": audit.space,
        "copies": audit.copies,
        "flagged": int(audit.flagged.sum()),
        "count": len(audit.flagged),
        "sample_closeness": float(np.median(audit.samples.closeness)),
        "real_closeness": float(np.median(audit.real.closeness)),
        "sample_distance": float(np.median(audit.samples.distance)),
        "real_distance": float(np.median(audit.real.distance)),
        "pairs": pairs,
    }


def _cut_out(raw: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(h, w, 3) uint8: the bone and a margin."""
    return grey(raw[common_crop([bone_mask(raw)])], window)
