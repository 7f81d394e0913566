"""The plots of an evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from pti.drawing.themed_svg import LINE, SERIES, TEXT, drawing
from pti.evaluate.scores import Evaluated, Scores
from pti.metrics.bootstrap import Mean
from pti.metrics.calibration import Intervals, central_interval, rank_histogram

TRUE, PREDICTED, CONDITION, CORRECTED = SERIES[0], SERIES[1], SERIES[2], SERIES[3]
_LEVEL = 0.9


def label_of(measure: str) -> str:
    """A measure in words: ``width at 10 mm``."""
    names = {
        "height": "height",
        "width_quarter": "width at ¼ of the height",
        "width_half": "width at ½ of the height",
        "width_three_quarters": "width at ¾ of the height",
        "area": "area",
    }
    return names.get(measure) or measure.replace("width_at_", "width at ").replace("mm", " mm")


def agreement_plot(scores: Scores, measure: str) -> Markup | None:
    """Predicted against true, and Bland–Altman: the difference against the mean of both."""
    true, predicted = scores.true[measure], scores.answer(measure)
    known = ~np.isnan(true) & ~np.isnan(predicted)
    if not known.any():
        return None
    true, predicted = true[known], predicted[known]
    title = f"{label_of(measure).capitalize()}: predicted against true, and Bland–Altman"
    with drawing(8.6, 3.7, title) as canvas:
        scatter, bland_altman = canvas.figure.subplots(1, 2)
        if scores.samples > 1:
            low, high = central_interval(scores.predicted[measure][known], _LEVEL)
            scatter.vlines(true, low, high, color=PREDICTED, alpha=0.35, linewidth=1.2)
        scatter.scatter(true, predicted, s=16, color=PREDICTED, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        scatter.plot(ends, ends, color=TEXT, linewidth=1, linestyle="--")
        scatter.set(
            xlabel="true, mm", ylabel="predicted, mm", title=label_of(measure).capitalize(), aspect="equal"
        )
        scatter.set_adjustable("datalim")
        _bland_altman(bland_altman, true, predicted)
    return canvas.svg


def _bland_altman(axes: Axes, true: np.ndarray, predicted: np.ndarray) -> None:
    middle, difference = (true + predicted) / 2, predicted - true
    bias, spread = difference.mean(), 1.96 * (difference.std(ddof=1) if len(difference) > 1 else 0.0)
    axes.scatter(middle, difference, s=16, color=PREDICTED, linewidths=0)
    axes.axhline(0, color=LINE, linewidth=1)
    lines = {"mean": bias, "−1.96 SD": bias - spread, "+1.96 SD": bias + spread}
    for name, value in (lines if spread > 0 else {"mean": bias}).items():
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
    axes.set(xlabel="mean of both, mm", ylabel="predicted − true, mm", title="Bland–Altman")


def forest_plot(means: Mapping[str, Mean], label: str) -> Markup:
    """Each method's mean with its interval, the best on top.

    Args:
        means: method -> its figure.
        label: what the axis shows.
    """
    order = sorted(means, key=lambda method: means[method].value)
    with drawing(7.2, 0.75 + 0.34 * len(order), label) as canvas:
        axes = canvas.figure.subplots()
        for row, method in enumerate(reversed(order)):
            mean = means[method]
            if np.isfinite(mean.low):
                axes.plot([mean.low, mean.high], [row, row], color=PREDICTED, linewidth=3, alpha=0.45)
            axes.plot(mean.value, row, "o", color=PREDICTED, markersize=7)
            axes.annotate(
                f"{mean.value:.2f}",
                (mean.value, row),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(order)), list(reversed(order)))
        axes.set_ylim(-0.6, len(order) - 0.25)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
    return canvas.svg


def calibration_plot(scores: Scores, measure: str, intervals: Sequence[Intervals]) -> Markup | None:
    """Promised against held shares of central intervals, and the rank of the truth among its samples."""
    true, samples = scores.true[measure], scores.predicted[measure]
    known = ~np.isnan(true) & ~np.isnan(samples).any(axis=1)
    if scores.samples < 2 or not known.any():
        return None
    promised = np.linspace(0.05, 0.95, 19)
    held = []
    for level in promised:
        low, high = central_interval(samples[known], level)
        held.append(np.mean((low <= true[known] + 1e-9) & (true[known] <= high + 1e-9)))
    with drawing(8.6, 3.5, f"Calibration of the {label_of(measure)}") as canvas:
        coverage, ranks = canvas.figure.subplots(1, 2)
        coverage.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle="--")
        coverage.plot(promised, held, color=PREDICTED, linewidth=2, label="samples")
        corrected = [(row.level, row.corrected_coverage.value) for row in intervals if row.corrected_coverage]
        if corrected:
            coverage.plot(
                *zip(*corrected, strict=True), "D", color=CORRECTED, markersize=7, label="corrected"
            )
            coverage.legend(loc="upper left")
        coverage.set(
            xlim=(0, 1), ylim=(0, 1.02), xlabel="promised", ylabel="held", title="Coverage of intervals"
        )
        counts = rank_histogram(samples, true)
        ranks.bar(range(len(counts)), counts, color=PREDICTED, width=0.86)
        ranks.axhline(counts.sum() / len(counts), color=TEXT, linewidth=1, linestyle="--")
        ranks.set(
            xlabel="samples below the truth", ylabel="slices", title="Rank of the truth (flat is right)"
        )
        ranks.grid(visible=False, axis="x")
    return canvas.svg


def distribution_plot(evaluated: Evaluated, method: str, measures: Sequence[str]) -> Markup:
    """How measures are distributed over the set: true, predicted (all samples) and condition."""
    scores = evaluated.methods[method]
    with drawing(8.6, 3.0, "Distributions of true, predicted and condition sizes") as canvas:
        for axes, measure in zip(
            np.atleast_1d(canvas.figure.subplots(1, len(measures))), measures, strict=True
        ):
            shown = {
                "true": (scores.true[measure], TRUE),
                "predicted": (scores.predicted[measure], PREDICTED),
            }
            if evaluated.conditions is not None:
                shown["condition"] = (evaluated.conditions[measure], CONDITION)
            values = {name: (found[~np.isnan(found)], color) for name, (found, color) in shown.items()}
            everything = np.concatenate([found.ravel() for found, _ in values.values()])
            bins = np.histogram_bin_edges(everything, bins=24) if everything.size else 10
            styles = {"true": "-", "predicted": "-", "condition": ":"}
            for name, (found, color) in values.items():
                filled = {"histtype": "stepfilled", "alpha": 0.25} if name == "true" else {"histtype": "step"}
                axes.hist(found.ravel(), bins, density=True, color=color, **filled)  # pyright: ignore
                axes.hist(
                    found.ravel(),
                    bins,
                    density=True,
                    color=color,
                    histtype="step",
                    linewidth=1.8,
                    linestyle=styles[name],
                    label=name,
                )
            axes.set(xlabel=f"{label_of(measure)}, mm", yticks=[])
            axes.grid(visible=False)
            axes.spines["left"].set_visible(False)
        canvas.figure.axes[0].legend(loc="best", fontsize=9)
    return canvas.svg


def ratio_plot(evaluated: Evaluated, method: str, measures: Sequence[str]) -> Markup | None:
    """Predicted / true against true / condition: whether larger changes are met as well as small ones."""
    if evaluated.conditions is None:
        return None
    scores = evaluated.methods[method]
    with drawing(8.6, 3.0, "Predicted / true against true / condition") as canvas:
        for axes, measure in zip(
            np.atleast_1d(canvas.figure.subplots(1, len(measures))), measures, strict=True
        ):
            change = scores.true[measure] / evaluated.conditions[measure]
            axes.scatter(
                change, scores.answer(measure) / scores.true[measure], s=14, color=PREDICTED, linewidths=0
            )
            axes.axhline(1, color=TEXT, linewidth=1, linestyle="--")
            axes.set(title=label_of(measure).capitalize(), xlabel="true / condition")
        canvas.figure.axes[0].set_ylabel("predicted / true")
    return canvas.svg
