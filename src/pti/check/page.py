"""Output of the command: check.csv, pairs.csv, check.html and a table on the terminal."""

from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pti
from pti.check.full_check import Report
from pti.check.image_facts import PairFacts
from pti.check.pictures import overlay, thumbnail
from pti.check.plots import intensities, placement
from pti.common.files import write_text_atomically
from pti.common.tables import write_csv
from pti.data.checks.findings import Finding
from pti.data.layouts import ROLES
from pti.data.tif import TifError, read
from pti.drawing.page import render
from pti.drawing.panels import data_uri, grey

MAX_ILLUSTRATED = 6  # findings with pictures for each fault
MAX_FAULTS = 20  # rows of the table on the terminal
PICTURE_SIZE = 176  # pixels
COMPARED = {"shifted", "swapped", "unlike", "unjudged", "duplicate", "near_duplicate", "exchanged"}

FINDING_COLUMNS = ("severity", "file", "fault", "what", "fix")
PAIR_COLUMNS = (
    *("name", "patient", "side", "shift_down_px", "shift_right_px", "shift_mm"),
    *("rotation_deg", "edge_correlation", "evidence"),
)

TITLES = {
    "background": "Background is not 0",
    "blank": "Only zeros",
    "bomb": "Decompresses to an excessive size",
    "border": "Tissue touches the border",
    "channels": "Several channels",
    "codec": "Compression that needs another package",
    "drift": "Patient with different intensities",
    "dtype": "Unsupported pixel type",
    "duplicate": "Same pixels under several names",
    "empty": "Empty file",
    "exchanged": "Condition and target exchanged",
    "few_images": "Too few images",
    "header_only": "No image in the file",
    "layout": "Folder does not match the layout",
    "loop": "Circular TIF directory",
    "meaning": "Pixels need a conversion",
    "missing_partner": "Partner missing",
    "mixed_types": "Pixel type differs from the rest",
    "near_duplicate": "Similar images of different patients",
    "no_images": "No images",
    "no_pixel_size": "Pixel size not stated",
    "no_patient": "No patient in the name",
    "non_finite": "NaN or infinite pixels",
    "not_tif": "Not a TIF file",
    "outside": "File outside the data root",
    "pages": "Several pages",
    "pixel_size": "Pixel sizes disagree",
    "pixels": "Pixel size is unusable",
    "shifted": "Target displaced against its condition",
    "size": "Images of a pair differ in size",
    "split": "No split by patient possible",
    "split_patient": "Patient in two splits",
    "swapped": "Partners swapped",
    "too_large": "Declared size is impossible",
    "truncated": "Truncated file",
    "unjudged": "Alignment could not be judged",
    "unlike": "Condition and target have little in common",
    "unreadable": "Unreadable file",
}


def write_report(report: Report, output_dir: Path) -> dict[str, Path]:
    """Write the page and both tables; return the path of each by name."""
    files = {"report": "check.html", "findings": "check.csv", "pairs": "pairs.csv"}
    paths = {name: output_dir / file for name, file in files.items()}
    write_csv(paths["findings"], FINDING_COLUMNS, map(vars, report.findings))
    write_csv(paths["pairs"], PAIR_COLUMNS, (_pair_row(report, facts) for facts in report.facts))
    write_text_atomically(paths["report"], _page(report))
    return paths


def print_findings(report: Report) -> None:
    """Print a table with one row for each fault: how often it occurs, and the first file."""
    from rich.console import Console
    from rich.table import Table

    if not report.findings:
        return
    table = Table(title="Findings", title_justify="left")
    for column in ("", "fault", "count"):
        table.add_column(column, overflow="fold")
    table.add_column("for example", no_wrap=True, overflow="ignore")  # a path that can be copied
    groups = _by_fault(report.findings)
    for severity, title, findings in groups[:MAX_FAULTS]:
        color = "red" if severity == "error" else "yellow"
        table.add_row(f"[{color}]{severity}[/]", title, str(len(findings)), findings[0].file)
    console = Console()
    console.print(table)
    if len(groups) > MAX_FAULTS:
        console.print(f"… and {len(groups) - MAX_FAULTS} more faults, see check.html")


def _by_fault(findings: list[Finding]) -> list[tuple[str, str, list[Finding]]]:
    """Group sorted findings of one fault: severity, title, findings."""
    groups = groupby(findings, lambda finding: (finding.severity, finding.fault))
    return [(severity, TITLES.get(fault, fault), list(group)) for (severity, fault), group in groups]


def _pair_row(report: Report, facts: PairFacts) -> dict[str, str]:
    pair, alignment = facts.pair, facts.alignment
    row = {"name": pair.name, "patient": pair.patient, "side": report.splits.get(pair.patient, "")}
    if alignment is not None:
        row |= {
            "shift_down_px": f"{alignment.shift_y_px:.2f}",
            "shift_right_px": f"{alignment.shift_x_px:.2f}",
            "shift_mm": f"{alignment.shift_px * facts.pixel_mm:.3f}" if facts.pixel_mm else "",
            "rotation_deg": f"{alignment.rotation_deg:.2f}",
            "edge_correlation": f"{alignment.score:.3f}",
            "evidence": f"{alignment.evidence:.2f}",
        }
    return row


def _page(report: Report) -> str:
    groups = []
    for severity, title, findings in _by_fault(report.findings):
        illustrated = [
            (finding, pictures)
            for finding in findings[:MAX_ILLUSTRATED]
            if (pictures := _pictures(report.source.root, finding))
        ]
        groups.append(
            {"severity": severity, "title": title, "findings": findings, "illustrated": illustrated}
        )
    flagged = {finding.file for finding in report.findings if finding.fault in COMPARED}
    return render(
        "check/templates/check.html",
        report=report,
        version=pti.__version__,
        groups=groups,
        placement=placement(report.facts, flagged),
        intensities={role: intensities(report.facts, role) for role in ROLES},
    )


def _pictures(root: Path, finding: Finding) -> list[dict[str, str]]:
    """Draw the images of a finding, and an overlay of two images that are to be compared."""
    images = {}
    for name in finding.images:
        with suppress(TifError):
            images[name] = thumbnail(read(root / name).pixels, PICTURE_SIZE)
    pictures = [{"name": name, "source": data_uri(grey(image, (0, 1)))} for name, image in images.items()]
    compared = list(images.values())[:2] if finding.fault in COMPARED else []
    if len(compared) == 2 and compared[0].shape == compared[1].shape:
        name = "overlay: first image orange, second image blue"
        pictures.insert(2, {"name": name, "source": data_uri(overlay(*compared))})
    return pictures
