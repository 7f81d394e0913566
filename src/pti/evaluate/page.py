"""``report.html``: an evaluation on one self-contained, printable page."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from PIL import Image

from pti.drawing.page import render
from pti.drawing.panels import data_uri
from pti.evaluate import plots
from pti.evaluate.gallery import closest_pairs, gallery
from pti.evaluate.method_tables import (
    BONE,
    COLUMNS,
    IMAGES,
    Summaries,
    interval_text,
    method_table,
    number,
    region_tables,
)
from pti.evaluate.result import Evaluation
from pti.evaluate.scores import Scores, mean_image
from pti.evaluate.summaries import Difference
from pti.metrics.bone_agreement import LENGTHS, RATIOS, WITHIN_PX, ratio_columns
from pti.metrics.bootstrap import Mean
from pti.metrics.distribution import FEATURES
from pti.metrics.memorization import MAX_FLAGGED, SUSPICIOUS_QUANTILE

_PLOTTED = ("height", "width_half")
_VERDICTS = {
    "better": "better than",
    "undecided": "not significantly different from",
    "worse": "worse than",
}


def page(
    evaluation: Evaluation,
    summaries: Summaries,
    differences: Sequence[Difference],
    pictures: Mapping[str, Sequence[Image.Image]],
) -> str:
    """Return the HTML of the page; ``pictures`` come from `closeups`."""
    scores, measurements, own = evaluation.scores, evaluation.measurements, summaries[evaluation.main]
    heights = {name: metrics["height_abs_error_mm"] for name, metrics in summaries.items()}
    agreements = [plots.agreement_plot(scores, measure) for measure in LENGTHS[:4]]
    return render(
        "evaluate/templates/evaluation.html",
        evaluation=evaluation,
        scores=scores,
        now=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        verdict=_verdict(evaluation, own, differences),
        tiles=_tiles(evaluation, own),
        tables=[method_table(summaries, columns) for columns in (BONE, IMAGES)],
        regions=region_tables(evaluation, summaries),
        closeups={title: [data_uri(np.asarray(row)) for row in rows] for title, rows in pictures.items()},
        forest=plots.forest_plot(heights, "mean absolute error of the bone height, mm"),
        differences=[_difference(row) for row in differences if row.metric in COLUMNS],
        agreements=[plot for plot in agreements if plot is not None],
        calibration=plots.calibration_plot(scores, "height", evaluation.intervals.get("height", ())),
        spread=_spread(evaluation, own),
        bands=evaluation.bands,
        intervals=[row for rows in evaluation.intervals.values() for row in rows],
        sets=_sets(evaluation, differences),
        distribution=plots.distribution_plot(measurements, evaluation.main, _PLOTTED),
        ratios=plots.ratio_plot(measurements, evaluation.main, _PLOTTED),
        within=[_within(scores, measure) for measure in LENGTHS],
        within_columns=[f"≤ {px} px" for px in WITHIN_PX] + [f"ratio > {ratio:.2f}" for ratio in RATIOS],
        cases=gallery(evaluation),
        audits=[(audited.audit, closest_pairs(audited)) for audited in evaluation.audits],
        quantile=SUSPICIOUS_QUANTILE,
        max_flagged=MAX_FLAGGED,
        label_of=plots.label_of,
        number=number,
        median=np.median,
        interval=interval_text,
    )


def _verdict(
    evaluation: Evaluation, own: Mapping[str, Mean], differences: Sequence[Difference]
) -> dict[str, str]:
    """Summarize the result in two sentences."""
    height = own["height_abs_error_mm"]
    interval = f" (95 % interval {interval_text(height)})" if interval_text(height) else ""
    headline = (
        f"{evaluation.main} predicts the bone height with a mean absolute error of "
        f"{number(height.value)} mm{interval}."
    )
    by_height = _comparison(evaluation, differences, "height_abs_error_mm")
    by_kid = _comparison(evaluation, differences, "kid_lite0")
    sentences = [f"On the same slices it is {by_height}."] if by_height else []
    sentences += [f"As a set, its images are {by_kid} by KID."] if by_kid else []
    return {"headline": headline, "detail": " ".join(sentences)}


def _comparison(evaluation: Evaluation, differences: Sequence[Difference], metric: str) -> str:
    """Phrase as ``better than A; not significantly different from B and C``; empty without other methods."""
    own_mean = mean_image(evaluation.main)
    rows = [row for row in differences if row.metric == metric and row.other != own_mean]
    names = {verdict: [row.other for row in rows if row.verdict == verdict] for verdict in _VERDICTS}
    return "; ".join(
        f"{_VERDICTS[verdict]} {_enumerate(others)}" for verdict, others in names.items() if others
    )


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _spread(evaluation: Evaluation, own: Mapping[str, Mean]) -> str | None:
    """Compare the spread of a slice's samples with their error."""
    if "diversity" not in own:
        return None
    error, diversity = evaluation.scores.error("height"), own["diversity"].value
    percent = 100 * diversity / evaluation.measurements.data_range
    return (
        "The heights of the samples of one slice have a standard deviation of "
        f"{number(own['height_spread_mm'].value)} mm on average; their median has a root mean square error "
        f"of {number(float(np.sqrt(np.nanmean(error**2))))} mm. For calibrated samples the two are about "
        f"equal. Two samples differ by {diversity:.4g} raw units per pixel in the bone, {percent:.1f} % of "
        "the data range."
    )


def _tiles(evaluation: Evaluation, own: Mapping[str, Mean]) -> list[tuple[str, str]]:
    scores = evaluation.scores
    tiles = [
        (str(len(scores.names)), "slices"),
        (str(len(set(scores.patients))), "patients"),
        (f"{number(own['height_abs_error_mm'].value)} mm", "height error"),
        (f"{number(own['width_half_abs_error_mm'].value)} mm", "width error at ½ of the height"),
    ]
    if "dice" in own:
        tiles.append((number(own["dice"].value, 3), "Dice of the bone"))
    if scores.samples > 1 and not scores.quantiles:
        tiles.append((str(scores.samples), "samples per slice"))
    for row in evaluation.intervals.get("height", ()):
        if row.level == 0.9:
            coverage = row.corrected_coverage or row.coverage
            corrected = "corrected " if row.corrected_coverage else ""
            tiles.append((f"{coverage.value * 100:.0f} %", f"coverage of {corrected}90 % intervals"))
    return tiles


def _difference(row: Difference) -> dict[str, str]:
    label, unit, digits = COLUMNS[row.metric]
    return {
        "other": row.other,
        "metric": f"{label}{f', {unit}' if unit else ''}",
        "value": number(row.mean.value, digits),
        "interval": interval_text(row.mean, digits) or "–",
        "verdict": row.verdict,
    }


def _sets(evaluation: Evaluation, differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """List every method's KID for each kind of features, with the main method's difference from it."""
    difference = {(row.metric, row.other): row for row in differences}
    sets = []
    for features, description in FEATURES.items():
        distances = [row for row in evaluation.distances if row.features == features]
        rows = [
            {"of": row, "kid": row.kid_mean(), "difference": difference.get((row.metric, row.method))}
            for row in distances
        ]
        sets += [{"features": description, "floor": distances[0], "rows": rows}] if rows else []
    return sets


def _within(scores: Scores, measure: str) -> dict[str, Any]:
    """Count the predictions within each distance, and above each ratio."""
    pairs = zip(scores.true[measure], scores.point_prediction(measure), scores.pixel_mm, strict=True)
    rows = [ratio_columns(float(true), float(predicted), float(edge)) for true, predicted, edge in pairs]
    known = [row for row in rows if not np.isnan(row["ratio"])]
    return {
        "measure": plots.label_of(measure),
        "slices": len(known),
        "ratio": number(float(np.mean([row["ratio"] for row in known])), 3) if known else "–",
        "counts": [int(sum(row[name] for row in known)) for name in rows[0] if name != "ratio"],
    }
