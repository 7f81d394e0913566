"""Report of a sweep: ``sweep.csv``, and ``sweep.html`` with a plot and the same patients across jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pti.common.files import write_text_atomically
from pti.common.progress import format_duration
from pti.common.tables import write_csv
from pti.drawing.panels import DIVERGING_CSS, data_uri, diverging, grey, tissue_window
from pti.sweep.record import COLLAPSED, FAILED, FINISHED, INTERRUPTED, WAITING, JobResult
from pti.sweep.trade_off import is_number, plot_trade_off

if TYPE_CHECKING:
    from rich.table import Table

MAIN_METRICS = {
    "val/l1": "lower",
    "val/psnr": "higher",
    "val/ssim": "higher",
    "val/perceptual": "lower",
    "val/bone_dice": "higher",
    "val/bone_height_error_mm": "lower",
    "val/kl": "",
    "val/active_units": "",
}
"""Metrics on the page, and which direction is better; the CSV has all metrics."""

CHOSEN_BY = "val/l1"
"""Metric of stage 1 whose lowest value chooses the job that the next command takes."""

_PAGE_ONLY = ("val/perceptual", "val/bone_dice", "val/active_units")  # the terminal is narrower
_MAX_COLUMNS = 8


@dataclass(frozen=True)
class SamePatients:
    """The same held-out images, reconstructed by the models of several jobs.

    Attributes:
        names: Names of the images.
        originals: Raw images (H, W).
        reconstructions: Job name -> raw images (H, W).
        note: Note on the choice of the images, for the reader.
    """

    names: list[str]
    originals: list[np.ndarray]
    reconstructions: dict[str, list[np.ndarray]]
    note: str = ""


def write_report(
    folder: Path, results: Sequence[JobResult], title: str, pictures: SamePatients | None
) -> dict[str, Path]:
    """Write ``sweep.csv`` and ``sweep.html`` into ``folder`` and return their paths by name.

    Args:
        folder: The sweep's folder.
        results: The jobs, in order.
        title: Heading of the page.
        pictures: The same images reconstructed by the jobs; None leaves them out.
    """
    table, page = folder / "sweep.csv", folder / "sweep.html"
    metrics = dict.fromkeys(name for result in results for name in result.metrics)
    columns = ["job", *results[0].values, "status", "reason", "seconds", *metrics, "path"]
    rows = [
        {
            **vars(result),
            **result.values,
            **result.metrics,
            "job": result.name,
            "path": result.folder.relative_to(folder),
        }
        for result in results
    ]
    write_csv(table, columns, rows)
    write_text_atomically(page, _html(results, title, pictures))
    return {"table": table, "page": page}


def print_report(
    results: Sequence[JobResult],
    artefacts: Mapping[str, Path],
    next_command: str | None = None,
    remark: str = "",
) -> None:
    """Print the jobs with their main metrics, the paths of the page and the table, and what to run next."""
    from rich.console import Console
    from rich.measure import Measurement

    columns = [name for name in main_metrics(results) if name not in _PAGE_ONLY]
    console, shown = Console(), list(columns)
    unlimited = console.options.update(width=10_000)  # a measurement ends at the width
    while shown and Measurement.get(console, unlimited, _table(results, shown)).minimum > console.width:
        shown.pop()
    console.print(_table(results, shown))
    if left := columns[len(shown) :]:
        print(f"The terminal is too narrow for {', '.join(left)}: see sweep.csv.")
    for result in results:
        if result.status in (FAILED, COLLAPSED):
            console.print(
                f"{result.name} {result.status}: {result.reason}", style="red", markup=False, soft_wrap=True
            )
    for name, path in artefacts.items():
        console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
    if any(result.status in (FAILED, INTERRUPTED, WAITING) for result in results):
        print("The same command runs the jobs again that are not finished.")
    if remark:
        print(remark)
    if next_command is not None:
        console.print(f"Next: {next_command}", style="bold", markup=False, highlight=False, soft_wrap=True)


def _table(results: Sequence[JobResult], columns: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(title="Sweep", title_justify="left")
    for key in results[0].values:
        table.add_column(key.split(".")[-1], overflow="fold", min_width=9)
    table.add_column("status", no_wrap=True)
    for name in columns:
        table.add_column(name.removeprefix("val/").replace("_", " "), justify="right")
    for result in results:
        metrics = (show(result.metric(name)) for name in columns)
        table.add_row(*result.values.values(), result.status, *metrics)
    return table


def main_metrics(results: Sequence[JobResult]) -> list[str]:
    """Return the metrics that get a column: `MAIN_METRICS`, or else the first few that the jobs have."""
    main = [name for name in MAIN_METRICS if any(result.metric(name) is not None for result in results)]
    present = dict.fromkeys(name for result in results for name in result.metrics)
    return main or list(present)[:_MAX_COLUMNS]


def show(value: Any) -> str:
    """Format a metric with four digits; – if there is none."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _html(results: Sequence[JobResult], title: str, pictures: SamePatients | None) -> str:
    from pti.drawing.page import render

    columns = main_metrics(results)
    best = {name: best_jobs(results, name) for name in columns}
    rows = [
        {
            "result": result,
            "metrics": [(show(result.metric(name)), result.name in best[name]) for name in columns],
            "time": format_duration(result.seconds) if result.seconds else "–",
        }
        for result in results
    ]
    return render(
        "sweep/templates/sweep.html",
        title=title,
        columns=[(name, MAIN_METRICS.get(name, "")) for name in columns],
        rows=rows,
        finished=sum(result.status == FINISHED for result in results),
        failed=[result for result in results if result.status in (FAILED, COLLAPSED)],
        plot=_plot(results),
        grid=None if pictures is None else _grid(results, pictures),
    )


def best_jobs(results: Sequence[JobResult], name: str) -> set[str]:
    """Return the jobs with the best value of a metric; none if no direction is better or all are equal."""
    better = MAIN_METRICS.get(name)
    healthy = [result for result in results if result.status != COLLAPSED]
    values = {result.name: result.metric(name) for result in healthy if is_number(result.metric(name))}
    if not better or len(set(values.values())) < 2:
        return set()
    best = (max if better == "higher" else min)(values.values())
    return {job for job, value in values.items() if value == best}


def changes_kl(results: Sequence[JobResult]) -> bool:
    """Tell whether the jobs differ in the weight of the KL divergence."""
    return any(key.endswith("kl_weight") for key in results[0].values)


def _plot(results: Sequence[JobResult]) -> dict[str, Any] | None:
    for name in (CHOSEN_BY, "val/psnr"):
        svg = plot_trade_off(results, name)
        if svg is not None:
            chosen = best_jobs(results, CHOSEN_BY) and "data.fold" not in results[0].values
            choice = {"chosen_by": CHOSEN_BY if chosen else "", "changes_kl": changes_kl(results)}
            return {"svg": svg, "metric": name, "better": MAIN_METRICS[name], **choice}
    return None


def _grid(results: Sequence[JobResult], pictures: SamePatients) -> dict[str, Any]:
    """Draw each original, and each job's reconstruction above its difference, on common scales."""
    window = tissue_window(np.concatenate([original.ravel() for original in pictures.originals]))
    limit = 0.1 * (window[1] - window[0])
    labels = {job.name: job.label for job in results if job.name in pictures.reconstructions}
    rows = []
    for index, (name, original) in enumerate(zip(pictures.names, pictures.originals, strict=True)):
        images = [pictures.reconstructions[job][index] for job in labels]
        cells = [
            (data_uri(grey(image, window)), data_uri(diverging(image - original, limit))) for image in images
        ]
        rows.append({"name": name, "original": data_uri(grey(original, window)), "cells": cells})
    scale = {"limit": f"{limit:.3g}", "colors": DIVERGING_CSS}
    return {"rows": rows, "labels": list(labels.values()), "note": pictures.note, **scale}
