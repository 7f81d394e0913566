"""What a sweep found: ``sweep.csv``, and ``sweep.html`` with a plot and the same patients across jobs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.files import write_text_atomically
from pti.common.progress import format_duration
from pti.drawing.panels import DIVERGING_CSS, data_uri, diverging, grey, tissue_window
from pti.sweep.record import FAILED, FINISHED, JobResult
from pti.sweep.trade_off import is_number, plot_trade_off

MAIN_FIGURES = {
    "val/l1": "lower",
    "val/psnr": "higher",
    "val/ssim": "higher",
    "val/perceptual": "lower",
    "val/bone_dice": "higher",
    "val/bone_height_error_mm": "lower",
    "val/kl": "",
    "val/active_units": "",
}
"""Figures that the page shows, and which end is the better one; the table in the CSV has all."""

_PAGE_ONLY = ("val/perceptual", "val/bone_dice", "val/active_units")  # the terminal is narrower
_MOST_COLUMNS = 8


@dataclass(frozen=True)
class SamePatients:
    """The same held-out images through several jobs' models.

    Attributes:
        names: of the images.
        originals: (H, W) raw, each.
        reconstructions: job name -> (H, W) raw, each.
        note: what the reader must know of the choice.
    """

    names: list[str]
    originals: list[np.ndarray]
    reconstructions: dict[str, list[np.ndarray]]
    note: str = ""


def write_report(
    folder: Path, results: Sequence[JobResult], title: str = "Sweep", pictures: SamePatients | None = None
) -> dict[str, Path]:
    """Write ``sweep.csv`` and ``sweep.html`` into ``folder``; return them by name.

    Args:
        folder: the sweep's folder.
        results: the jobs, in order.
        title: heading of the page.
        pictures: the same images through the jobs; None leaves them out.
    """
    table, page = folder / "sweep.csv", folder / "sweep.html"
    write_text_atomically(table, _csv(folder, results))
    write_text_atomically(page, _html(results, title, pictures))
    return {"table": table, "page": page}


def print_report(results: Sequence[JobResult], artefacts: Mapping[str, Path]) -> None:
    """Print the jobs with their main figures, and where the page and the table are."""
    from rich.console import Console
    from rich.table import Table

    columns = [name for name in main_figures(results) if name not in _PAGE_ONLY]
    table = Table(title="Sweep", title_justify="left")
    for key in swept_keys(results):
        table.add_column(key.split(".")[-1], overflow="fold", min_width=9)
    table.add_column("status", no_wrap=True)
    for name in columns:
        table.add_column(name.removeprefix("val/").replace("_", " "), justify="right")
    for result in results:
        values = [result.values.get(key, "") for key in swept_keys(results)]
        table.add_row(*values, result.status, *(show(result.figure(name)) for name in columns))
    console = Console()
    console.print(table)
    for result in results:
        if result.status == FAILED:
            console.print(f"{result.name} failed: {result.reason}", style="red", markup=False, soft_wrap=True)
    for name, path in artefacts.items():
        console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)


def swept_keys(results: Sequence[JobResult]) -> list[str]:
    """The keys in which the jobs differ."""
    return list(dict.fromkeys(key for result in results for key in result.values))


def main_figures(results: Sequence[JobResult]) -> list[str]:
    """The figures worth a column: the known ones, or else the first few that the jobs have."""
    main = [name for name in MAIN_FIGURES if any(result.figure(name) is not None for result in results)]
    present = dict.fromkeys(name for result in results for name in result.figures)
    return main or list(present)[:_MOST_COLUMNS]


def show(value: Any) -> str:
    """A figure in four digits; – where there is none."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _csv(folder: Path, results: Sequence[JobResult]) -> str:
    figures = list(dict.fromkeys(name for result in results for name in result.figures))
    keys, text = swept_keys(results), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *keys, "status", "reason", "seconds", *figures, "path"])
    for result in results:
        path = result.folder
        shown = path.relative_to(folder) if path.is_relative_to(folder) else path
        values = [result.values.get(key, "") for key in keys]
        numbers = [result.figures.get(name, "") for name in figures]
        writer.writerow([result.name, *values, result.status, result.reason, result.seconds, *numbers, shown])
    return text.getvalue()


def _html(results: Sequence[JobResult], title: str, pictures: SamePatients | None) -> str:
    from pti.drawing.page import render

    columns = main_figures(results)
    best = {name: _best(results, name) for name in columns}
    rows = [
        {
            "result": result,
            "values": [result.values.get(key, "") for key in swept_keys(results)],
            "figures": [(show(result.figure(name)), result.name in best[name]) for name in columns],
            "time": format_duration(result.seconds) if result.seconds else "–",
        }
        for result in results
    ]
    return render(
        "sweep/templates/sweep.html",
        title=title,
        keys=swept_keys(results),
        columns=[(name, MAIN_FIGURES.get(name, "")) for name in columns],
        rows=rows,
        finished=sum(result.status == FINISHED for result in results),
        failed=[result for result in results if result.status == FAILED],
        plot=_plot(results),
        grid=None if pictures is None else _grid(results, pictures),
    )


def _best(results: Sequence[JobResult], name: str) -> set[str]:
    """The jobs that are best in a figure; none where no end is better or all are equal."""
    better = MAIN_FIGURES.get(name)
    found = {result.name: result.figure(name) for result in results if is_number(result.figure(name))}
    if not better or len(set(found.values())) < 2:
        return set()
    wanted = (max if better == "higher" else min)(found.values())
    return {job for job, value in found.items() if value == wanted}


def _plot(results: Sequence[JobResult]) -> dict[str, str] | None:
    for name in ("val/l1", "val/psnr"):
        svg = plot_trade_off(results, name, "val/kl")
        if svg is not None:
            return {"svg": svg, "figure": name, "better": MAIN_FIGURES[name]}
    return None


def _grid(results: Sequence[JobResult], pictures: SamePatients) -> dict[str, Any]:
    """For each image: the original, then each job's reconstruction above its difference; common scales."""
    shown = [result for result in results if result.name in pictures.reconstructions]
    low, high = tissue_window(np.concatenate([original.ravel() for original in pictures.originals]))
    limit = 0.1 * (high - low)
    rows = []
    for index, name in enumerate(pictures.names):
        original = pictures.originals[index]
        cells = [
            (
                data_uri(grey(pictures.reconstructions[result.name][index], (low, high))),
                data_uri(diverging(pictures.reconstructions[result.name][index] - original, limit)),
            )
            for result in shown
        ]
        rows.append({"name": name, "original": data_uri(grey(original, (low, high))), "cells": cells})
    labels = [result.label for result in shown]
    return {
        "rows": rows,
        "labels": labels,
        "limit": f"{limit:.3g}",
        "colors": DIVERGING_CSS,
        "note": pictures.note,
    }
