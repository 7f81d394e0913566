"""``report.html``: an evaluation on one page that needs no network and prints well."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from pti.drawing.page import render
from pti.evaluate.gallery import copies, gallery
from pti.evaluate.plots import (
    agreement_plot,
    calibration_plot,
    distribution_plot,
    forest_plot,
    label_of,
    ratio_plot,
)
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Scores, mean_image
from pti.evaluate.summaries import HIGHER_IS_BETTER, Difference
from pti.metrics.bone_agreement import LENGTHS, RATIOS, WITHIN_PX, ratio_columns
from pti.metrics.bootstrap import Mean
from pti.metrics.distribution import FEATURES
from pti.metrics.memorization import MOST_FLAGGED, QUANTILE

BONE = {
    "height_abs_error_mm": ("height error", "mm", 2),
    "height_error_mm": ("height bias", "mm", 2),
    "width_half_abs_error_mm": ("width ½ error", "mm", 2),
    "dice": ("Dice", "", 3),
    "hausdorff95_mm": ("Hausdorff 95 %", "mm", 2),
    "height_crps_mm": ("height CRPS", "mm", 2),
}
IMAGES = {
    "kid_lite0": ("KID", "Lite0", None),
    "bone_ssim": ("SSIM in bone", "", 3),
    "ssim": ("SSIM", "", 3),
    "ms_ssim": ("MS-SSIM", "", 3),
    "psnr": ("PSNR", "dB", 1),
    "mae": ("MAE", "raw", 1),
    "texture_power_ratio": ("texture power", "1 = true", 2),
    "texture_correlation": ("texture", "correlation", 2),
}
COLUMNS = BONE | IMAGES
_SHOWN_MEASURES = LENGTHS[:4]
_UNRANKED = {"height_error_mm", "texture_power_ratio"}


def page(
    evaluation: Evaluation, summaries: Mapping[str, Mapping[str, Mean]], compared: Sequence[Difference]
) -> str:
    """The page's HTML."""
    scores, own = evaluation.scores, summaries[evaluation.main]
    heights = {name: figures["height_abs_error_mm"] for name, figures in summaries.items()}
    return render(
        "evaluate/templates/evaluation.html",
        evaluation=evaluation,
        scores=scores,
        now=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        verdict=_verdict(evaluation, own, compared),
        tiles=_tiles(evaluation, own),
        tables=[_table(summaries, columns) for columns in (BONE, IMAGES)],
        forest=forest_plot(heights, "mean absolute error of the bone height, mm")
        if len(heights) > 1
        else None,
        compared=[_difference(row) for row in compared if row.figure in COLUMNS],
        agreements=[
            plot for measure in _SHOWN_MEASURES if (plot := agreement_plot(scores, measure)) is not None
        ],
        calibration=calibration_plot(scores, "height", evaluation.intervals.get("height", ())),
        spread=_spread(evaluation, own),
        intervals=[row for rows in evaluation.intervals.values() for row in rows],
        sets=_sets(evaluation, compared),
        distribution=distribution_plot(evaluation.evaluated, evaluation.main, ("height", "width_half")),
        ratios=ratio_plot(evaluation.evaluated, evaluation.main, ("height", "width_half")),
        within=[_within(scores, measure) for measure in LENGTHS],
        within_columns=[f"≤ {px} px" for px in WITHIN_PX] + [f"ratio > {share:.2f}" for share in RATIOS],
        cases=gallery(evaluation),
        copies=[copies(copied) for copied in evaluation.copied],
        quantile=QUANTILE,
        most_flagged=MOST_FLAGGED,
        label_of=label_of,
        number=number,
    )


def number(value: float | None, digits: int | None = 2) -> str:
    """A number with a true minus; ``–`` where there is none, ``∞`` where it is infinite.

    Args:
        value: the number.
        digits: behind the point; None = three that count.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if digits is None:
        digits = 0 if abs(value) >= 999.5 else None
    return (f"{value:.3g}" if digits is None else f"{value:.{digits}f}").replace("-", "−")


def _verdict(
    evaluation: Evaluation, own: Mapping[str, Mean], compared: Sequence[Difference]
) -> dict[str, str]:
    """What the reader came for, in two sentences."""
    height = own["height_abs_error_mm"]
    ends = "" if math.isnan(height.low) else f" (95 %: {number(height.low)}–{number(height.high)})"
    headline = f"{evaluation.main} misses the bone height by {number(height.value)} mm on average{ends}."
    placed = _placed(evaluation, compared, "height_abs_error_mm")
    by_kid = _placed(evaluation, compared, "kid_lite0")
    sentences = [f"On the same slices it is {placed}."] if placed else []
    sentences += [f"Its images as a set are {by_kid} by KID."] if by_kid else []
    return {"headline": headline, "detail": " ".join(sentences)}


def _placed(evaluation: Evaluation, compared: Sequence[Difference], figure: str) -> str:
    """``better than A; not to be told from B and C``; empty without others."""
    own_mean = mean_image(evaluation.main)
    against = [row for row in compared if row.figure == figure and row.other != own_mean]
    words = {"better": "better than", "undecided": "not to be told from", "worse": "worse than"}
    parts = []
    for verdict, phrase in words.items():
        names = [row.other for row in against if row.verdict == verdict]
        parts += [f"{phrase} {_listed(names)}"] if names else []
    return "; ".join(parts)


def _table(summaries: Mapping[str, Mapping[str, Mean]], columns: Iterable[str]) -> dict[str, list]:
    """The methods that have any of these figures."""
    shown = [column for column in columns if any(column in figures for figures in summaries.values())]
    rows = [
        {"method": name, "cells": [_cell(summaries, name, column) for column in shown]}
        for name, figures in summaries.items()
        if any(column in figures for column in shown)
    ]
    return {"columns": [COLUMNS[column] for column in shown], "rows": rows}


def _spread(evaluation: Evaluation, own: Mapping[str, Mean]) -> str | None:
    """How much the samples of a slice differ, beside how wrong they are."""
    if "diversity" not in own:
        return None
    error, diversity = evaluation.scores.error("height"), own["diversity"].value
    skill = float(np.sqrt(np.nanmean(error**2)))
    heights = own["height_spread_mm"].value
    share = 100 * diversity / evaluation.evaluated.data_range
    return (
        f"Heights of a slice's samples have a standard deviation of {number(heights)} mm, their median errs "
        f"by {number(skill)} mm (root mean square): samples that tell the truth spread about as much as they "
        f"err. Between two samples a pixel in the bone differs by {diversity:.4g} raw units, {share:.1f} % "
        "of the data range."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _tiles(evaluation: Evaluation, own: Mapping[str, Mean]) -> list[tuple[str, str]]:
    scores = evaluation.scores
    tiles = [
        (str(len(scores.names)), "slices"),
        (str(len(set(scores.patients))), "patients"),
        (f"{number(own['height_abs_error_mm'].value)} mm", "height error"),
        (f"{number(own['width_half_abs_error_mm'].value)} mm", "width error, half-way up"),
    ]
    if "dice" in own:
        tiles.append((number(own["dice"].value, 3), "Dice of the bone"))
    if scores.samples > 1:
        tiles.append((str(scores.samples), "samples a slice"))
    for row in evaluation.intervals.get("height", ()):
        if row.level == 0.9:
            held = row.corrected_coverage or row.coverage
            name = "corrected 90 % interval holds" if row.corrected_coverage else "90 % interval holds"
            tiles.append((f"{held.value * 100:.0f} %", name))
    return tiles


def _cell(summaries: Mapping[str, Mapping[str, Mean]], method: str, column: str) -> dict[str, Any]:
    mean, digits = summaries[method].get(column), COLUMNS[column][2]
    if mean is None or math.isnan(mean.value):
        return {"value": "–", "interval": "", "best": False}
    interval = "" if math.isnan(mean.low) else f"{number(mean.low, digits)} to {number(mean.high, digits)}"
    known = [found[column].value for found in summaries.values() if column in found]
    known = [value for value in known if not math.isnan(value)]
    wanted = (max if column in HIGHER_IS_BETTER else min)(known)
    best = column not in _UNRANKED and len(known) > 1 and mean.value == wanted
    return {"value": number(mean.value, digits), "interval": interval, "best": best}


def _difference(row: Difference) -> dict[str, str]:
    label, unit, digits = COLUMNS[row.figure]
    interval = (
        "–"
        if math.isnan(row.mean.low)
        else f"{number(row.mean.low, digits)} to {number(row.mean.high, digits)}"
    )
    return {
        "other": row.other,
        "figure": f"{label}{f', {unit}' if unit else ''}",
        "value": number(row.mean.value, digits),
        "interval": interval,
        "verdict": row.verdict,
    }


def _sets(evaluation: Evaluation, compared: Sequence[Difference]) -> list[dict[str, Any]]:
    """For each kind of features every method's distances, with what the main method's KID has over it."""
    against = {(row.figure, row.other): row for row in compared}
    found = []
    for name, words in FEATURES.items():
        rows = [row for row in evaluation.distances if row.features == name]
        lines = [
            {"of": row, "kid": row.kid_mean(), "against": against.get((row.figure, row.method))}
            for row in rows
        ]
        found += [{"features": words, "floor": rows[0], "rows": lines}] if rows else []
    return found


def _within(scores: Scores, measure: str) -> dict[str, Any]:
    """How many predictions come within so many pixels, or above such a ratio."""
    pairs = zip(scores.true[measure], scores.answer(measure), scores.pixel_mm, strict=True)
    found = [ratio_columns(float(true), float(answer), float(edge)) for true, answer, edge in pairs]
    known = [row for row in found if not np.isnan(row["ratio"])]
    names = [name for name in (found[0] if found else {}) if name != "ratio"]
    return {
        "measure": label_of(measure),
        "slices": len(known),
        "ratio": number(float(np.mean([row["ratio"] for row in known])), 3) if known else "–",
        "counts": [int(sum(row[name] for row in known)) for name in names],
    }
