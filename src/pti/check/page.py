"""What `check` writes and prints: check.csv, pairs.csv, check.html and a short table."""

import csv
import io
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pti
from pti.check.full_check import Report
from pti.check.image_facts import PairFacts
from pti.check.plots import intensity_plot, placement_plot
from pti.common.files import write_text_atomically
from pti.data.checks.findings import Finding
from pti.data.tif import TifError, read
from pti.drawing.page import render
from pti.drawing.png import data_uri, display, grey, overlay

SHOWN = 6  # findings of a fault with pictures
ROWS = 200  # findings of a fault in the page; all are in check.csv
PICTURE = 176  # pixels
COMPARED = {"shifted", "swapped", "unlike", "duplicate", "near_duplicate", "exchanged"}

TITLES = {
    "background": "Background is not 0",
    "blank": "Nothing but zeros",
    "bomb": "Unpacks to far more than it holds",
    "border": "Tissue touches the border",
    "channels": "Colour or several channels",
    "codec": "Compressed with a scheme that needs a package",
    "drift": "A patient in other intensities",
    "dtype": "Unusable type of pixels",
    "duplicate": "The same pixels under two names",
    "empty": "Empty files",
    "exchanged": "Condition and target exchanged",
    "few_images": "Too few images",
    "header_only": "No image in the file",
    "layout": "The folder is not laid out as expected",
    "loop": "Runs in a circle",
    "missing_partner": "Partner missing",
    "mixed_types": "Stored in another type than the rest",
    "near_duplicate": "Alike across patients",
    "no_images": "No images",
    "no_patient": "No patient in the name",
    "non_finite": "NaN or infinite pixels",
    "not_tif": "Not a TIF file",
    "outside": "Leads out of the data root",
    "pages": "Several pages",
    "pixel_size": "Pixel sizes disagree",
    "pixels": "Pixels are not square",
    "shifted": "Target displaced against its condition",
    "size": "Unequal sizes in a pair",
    "split": "No split by patient",
    "split_patient": "A patient on two sides",
    "swapped": "Partners swapped",
    "too_large": "Declares an impossible size",
    "truncated": "Cut short",
    "unlike": "Condition and target share little",
    "unreadable": "Can't be read",
}


def title_of(fault: str) -> str:
    """A fault's code in words."""
    return TITLES.get(fault, fault.replace("_", " ").capitalize())


def write_report(report: Report, output_dir: Path) -> dict[str, Path]:
    """Write all files.

    Returns:
        Name -> path of each.
    """
    paths = {
        "report": output_dir / "check.html",
        "findings": output_dir / "check.csv",
        "pairs": output_dir / "pairs.csv",
    }
    columns = ("severity", "file", "fault", "what", "fix")
    findings = ([getattr(finding, column) for column in columns] for finding in report.findings)
    write_text_atomically(paths["findings"], _csv(columns, findings))
    header = [
        "name",
        "patient",
        "side",
        "shift_down_px",
        "shift_right_px",
        "shift_mm",
        "rotation_deg",
        "edge_correlation",
        "confidence",
    ]
    write_text_atomically(paths["pairs"], _csv(header, (_pair_row(report, pair) for pair in report.facts)))
    write_text_atomically(paths["report"], _page(report))
    return paths


def fault_table(report: Report, most: int) -> None:
    """Print one line for each fault: how often, and the first file."""
    from rich.console import Console
    from rich.table import Table

    if not report.findings:
        return
    table = Table(title="Findings", title_justify="left")
    for column in ("", "fault", "count", "for example"):
        table.add_column(column, overflow="fold")
    groups = _groups(report.findings)
    for severity, fault, findings in groups[:most]:
        colour = "red" if severity == "error" else "yellow"
        first = findings[0]
        table.add_row(f"[{colour}]{severity}[/]", title_of(fault), str(len(findings)), first.file)
    console = Console()
    console.print(table)
    if len(groups) > most:
        console.print(f"… and {len(groups) - most} more faults, see check.html")


def _groups(findings: list[Finding]) -> list[tuple[str, str, list[Finding]]]:
    return [
        (*key, list(group)) for key, group in groupby(findings, lambda found: (found.severity, found.fault))
    ]


def _csv(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _pair_row(report: Report, facts: PairFacts) -> list[str]:
    pair, movement = facts.pair, facts.alignment
    row = [pair.name, pair.patient, report.sides.get(pair.patient, "")]
    if movement is None:
        return [*row, *[""] * 6]
    mm = f"{movement.shift_px * facts.pixel_mm:.3f}" if facts.pixel_mm else ""
    row += [f"{movement.shift_y_px:.2f}", f"{movement.shift_x_px:.2f}", mm, f"{movement.rotation_deg:.2f}"]
    return [*row, f"{movement.score:.3f}", f"{movement.confidence:.3f}"]


def _page(report: Report) -> str:
    patients = {facts.pair.patient for facts in report.facts if facts.pair.patient}
    sides = [
        {
            "name": side,
            "pairs": report.slices.get(side, 0),
            "patients": sum(where == side for where in report.sides.values()),
        }
        for side in ("train", "val", "test")
        if side in report.slices
    ]
    flagged = {finding.file for finding in report.findings if finding.fault in COMPARED}
    return render(
        "check/templates/check.html",
        report=report,
        root=str(report.source.root),
        version=pti.__version__,
        counts={
            "pairs": len(report.facts),
            "patients": len(patients),
            "files": report.files,
            "errors": report.count("error"),
            "warnings": report.count("warning"),
        },
        sides=sides,
        groups=[_group(report, *group) for group in _groups(report.findings)],
        placement=placement_plot(report.facts, flagged),
        intensities=[intensity_plot(report.facts, side) for side in ("condition", "target")],
    )


def _group(report: Report, severity: str, fault: str, findings: list[Finding]) -> dict[str, Any]:
    return {
        "severity": severity,
        "fault": fault,
        "title": title_of(fault),
        "findings": findings[:ROWS],
        "left_out": max(0, len(findings) - ROWS),
        "count": len(findings),
        "shown": [
            {"finding": finding, "pictures": pictures}
            for finding in findings[:SHOWN]
            if (pictures := _pictures(report.source.root, finding))
        ],
    }


def _pictures(root: Path, finding: Finding) -> list[dict[str, str]]:
    """The images that a finding shows, and two that are to be compared laid over each other."""
    shown = {}
    for name in finding.images:
        try:
            shown[name] = display(read(root / name).pixels, PICTURE)
        except TifError:
            continue
    pictures = [{"name": name, "source": data_uri(grey(image))} for name, image in shown.items()]
    images = list(shown.values())
    if finding.fault in COMPARED and len(images) >= 2 and images[0].shape == images[1].shape:
        both = {
            "name": "laid over each other: first orange, second blue",
            "source": data_uri(overlay(*images[:2])),
        }
        pictures.insert(2, both)
    return pictures
