"""Plots of an evaluation."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from pti.drawing.themed_svg import LINE, SERIES, TEXT, Drawing, drawing
from pti.evaluate.scores import Measurements, Scores
from pti.metrics.bootstrap import Mean
from pti.metrics.calibration import IntervalCoverage, central_interval, covers, rank_histogram

TRUE, PREDICTED, CONDITION, CORRECTED = SERIES[0], SERIES[1], SERIES[2], SERIES[3]
_LEVEL = 0.9
_LABELS = {
    "width_quarter": "width at ¼ of the height",
    "width_half": "width at ½ of the height",
    "width_three_quarters": "width at ¾ of the height",
}


def label_of(measure: str) -> str:
    """Return the label of a measure, such as ``width at 10 mm``."""
    return _LABELS.get(measure) or measure.replace("width_at_", "width at ").replace("mm", " mm")


def agreement_plot(scores: Scores, measure: str) -> Markup | None:
    """Plot predicted against true values, and the Bland–Altman plot: differences against means."""
    true, predicted = scores.true[measure], scores.point_prediction(measure)
    known = ~np.isnan(true) & ~np.isnan(predicted)
    if not known.any():
        return None
    true, predicted, title = true[known], predicted[known], label_of(measure).capitalize()
    with drawing(8.6, 3.7, f"{title}: predicted against true, and Bland–Altman") as canvas:
        scatter, bland_altman = canvas.figure.subplots(1, 2)
        if scores.samples > 1:
            values = scores.predicted[measure][known]
            low, high = central_interval(values, _LEVEL, evenly_spread=scores.evenly_spread)
            scatter.vlines(true, low, high, color=PREDICTED, alpha=0.35, linewidth=1.2)
        scatter.scatter(true, predicted, s=16, color=PREDICTED, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        scatter.plot(ends, ends, color=TEXT, linewidth=1, linestyle="--")
        scatter.set(xlabel="true, mm", ylabel="predicted, mm", title=title, aspect="equal")
        scatter.set_adjustable("datalim")
        _bland_altman(bland_altman, true, predicted)
    return canvas.svg


def _bland_altman(axes: Axes, true: np.ndarray, predicted: np.ndarray) -> None:
    middle, difference = (true + predicted) / 2, predicted - true
    bias, margin = difference.mean(), 1.96 * (difference.std(ddof=1) if len(difference) > 1 else 0.0)
    axes.scatter(middle, difference, s=16, color=PREDICTED, linewidths=0)
    axes.axhline(0, color=LINE, linewidth=1)
    lines = {"mean": bias, "−1.96 SD": bias - margin, "+1.96 SD": bias + margin}
    for name, value in (lines if margin > 0 else {"mean": bias}).items():
        axes.axhline(value, color=TEXT, linewidth=1, linestyle="-" if name == "mean" else "--")
        axes.annotate(
            f"{name} {value:+.2f}".replace("-", "−"),
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axes.margins(y=0.15)
    axes.set(xlabel="mean of true and predicted, mm", ylabel="predicted − true, mm", title="Bland–Altman")


def forest_plot(means: Mapping[str, Mean], label: str) -> Markup | None:
    """Plot the mean of each method with its interval, the lowest on top; None for a single method.

    Args:
        means: Method -> mean.
        label: Label of the axis.
    """
    if len(means) < 2:
        return None
    order = sorted(means, key=lambda method: means[method].value, reverse=True)
    with drawing(7.2, 0.75 + 0.34 * len(order), label) as canvas:
        axes = canvas.figure.subplots()
        for row, method in enumerate(order):
            mean = means[method]
            if np.isfinite(mean.low):
                axes.plot([mean.low, mean.high], [row, row], color=PREDICTED, linewidth=3, alpha=0.45)
            axes.plot(mean.value, row, "o", color=PREDICTED, markersize=7)
            text = f"{mean.value:.2f}"
            axes.annotate(
                text, (mean.value, row), (0, 7), textcoords="offset points", ha="center", fontsize=9
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.6, len(order) - 0.25)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
    return canvas.svg


def calibration_plot(scores: Scores, measure: str, intervals: Sequence[IntervalCoverage]) -> Markup | None:
    """Plot actual against nominal coverage of central intervals, and the ranks of the true values."""
    true, samples = scores.true[measure], scores.predicted[measure]
    known = ~np.isnan(true) & ~np.isnan(samples).any(axis=1)
    if scores.samples < 2 or not known.any():
        return None
    nominal = np.linspace(0.05, 0.95, 19)
    actual = [
        np.mean(covers(*central_interval(samples[known], level, 0.0, scores.evenly_spread), true[known]))
        for level in nominal
    ]
    with drawing(8.6, 3.5, f"Calibration of the {label_of(measure)}") as canvas:
        coverage, ranks = canvas.figure.subplots(1, 2)
        coverage.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle="--")
        label = "quantiles" if scores.quantiles else "samples"
        coverage.plot(nominal, actual, color=PREDICTED, linewidth=2, label=label)
        corrected = [(row.level, row.corrected_coverage.value) for row in intervals if row.corrected_coverage]
        if corrected:
            levels, values = zip(*corrected, strict=True)
            coverage.plot(levels, values, "D", color=CORRECTED, markersize=7, label="corrected")
            coverage.legend(loc="upper left")
        labels = {"xlabel": "nominal", "ylabel": "actual", "title": "Coverage of intervals"}
        coverage.set(xlim=(0, 1), ylim=(0, 1.02), **labels)
        counts = rank_histogram(samples, true)
        ranks.bar(range(len(counts)), counts, color=PREDICTED, width=0.86)
        expected = np.full(len(counts), counts.sum() / len(counts))
        if scores.evenly_spread:
            # The outermost of K evenly spread samples are the quantiles 1 / 2K and 1 − 1 / 2K.
            expected = np.full(len(counts), counts.sum() / scores.samples)
            expected[[0, -1]] /= 2
        ranks.stairs(expected, np.arange(len(counts) + 1) - 0.5, color=TEXT, linewidth=1, linestyle="--")
        title = "Rank of the true value (dashed = calibrated)"
        ranks.set(xlabel=f"{label} below the true value", ylabel="slices", title=title)
        ranks.grid(visible=False, axis="x")
    return canvas.svg


def distribution_plot(measurements: Measurements, method: str, measures: Sequence[str]) -> Markup:
    """Plot the distributions of measures over the set: true, predicted (all samples) and condition."""
    scores = measurements.methods[method]
    with drawing(8.6, 3.0, "Distributions of true, predicted and condition sizes") as canvas:
        for axes, measure in _axes_of(canvas, measures):
            values = {"true": scores.true[measure], "predicted": scores.predicted[measure]}
            if measurements.conditions is not None:
                values["condition"] = measurements.conditions[measure]
            values = {name: column[~np.isnan(column)] for name, column in values.items()}
            bins = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=24).tolist()
            axes.hist(values["true"], bins, density=True, color=TRUE, histtype="stepfilled", alpha=0.25)
            colors = {"true": TRUE, "predicted": PREDICTED, "condition": CONDITION}
            for name, column in values.items():
                axes.hist(
                    column,
                    bins,
                    density=True,
                    color=colors[name],
                    histtype="step",
                    linewidth=1.8,
                    linestyle=":" if name == "condition" else "-",
                    label=name,
                )
            axes.set(xlabel=f"{label_of(measure)}, mm", yticks=[])
            axes.grid(visible=False)
            axes.spines["left"].set_visible(False)
        canvas.figure.axes[0].legend(loc="best", fontsize=9)
    return canvas.svg


def ratio_plot(measurements: Measurements, method: str, measures: Sequence[str]) -> Markup | None:
    """Plot predicted / true against true / condition, which shows errors that depend on the true change."""
    if measurements.conditions is None:
        return None
    scores = measurements.methods[method]
    with drawing(8.6, 3.0, "Predicted / true against true / condition") as canvas:
        for axes, measure in _axes_of(canvas, measures):
            change = scores.true[measure] / measurements.conditions[measure]
            ratio = scores.point_prediction(measure) / scores.true[measure]
            axes.scatter(change, ratio, s=14, color=PREDICTED, linewidths=0)
            axes.axhline(1, color=TEXT, linewidth=1, linestyle="--")
            axes.set(title=label_of(measure).capitalize(), xlabel="true / condition")
        canvas.figure.axes[0].set_ylabel("predicted / true")
    return canvas.svg


def _axes_of(canvas: Drawing, measures: Sequence[str]) -> Iterator[tuple[Axes, str]]:
    """Yield axes side by side, one for each measure."""
    yield from zip(canvas.figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True)
