"""Write the table, the picture and the summary of measured images."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pti.common.files import hash_file
from pti.common.tables import write_csv
from pti.data.splits import evenly_spaced
from pti.drawing.measuring_sheet import MeasuredPanel, MeasuringLine, measuring_sheet
from pti.inference.bone_sizes import read_bone
from pti.inference.tables import Rows, count_images, mean
from pti.measure.images import NO_BONE, MeasuredImage
from pti.metrics.bone_agreement import Bone
from pti.metrics.morphometry import FRACTIONS, HEIGHTS_MM, width_ends
from pti.runs.summary import print_summary, write_summary

TABLE, PICTURE = "measures.csv", "measures.png"

_PANELS = 12  # images in the picture
_MAX_FAULTS = 20  # printed
_AT_HEIGHTS = f"widths at {', '.join(map(str, HEIGHTS_MM))} mm from the base"
_AVERAGED = ("height_mm", *(f"width_{name}_mm" for name in FRACTIONS), "area_mm2")


def finish(
    output_dir: Path, images: Sequence[MeasuredImage], rows: Rows, pixel_mm: float, next_command: str
) -> bool:
    """Write the table, the picture and the summary, and print what the user has to know.

    Args:
        output_dir: The command's output folder.
        images: The images.
        rows: Their measurements, from `measure_images`.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        next_command: Command to run next, to print.

    Returns:
        Whether every file could be used.
    """
    # The columns of a file that can't be used would end before those of the others begin.
    columns = list(max(rows, key=len))
    write_csv(output_dir / TABLE, columns, rows, digits=7)
    artefacts = {"measures": output_dir / TABLE}
    measured = [image for image, row in zip(images, rows, strict=True) if not row["note"]]
    if measured:
        panels = [_panel(image, pixel_mm) for image in evenly_spaced(measured, _PANELS)]
        measuring_sheet(output_dir / PICTURE, panels)
        artefacts["picture"] = output_dir / PICTURE
    unusable = [row for row in rows if "height_mm" not in row]
    warnings = [row["note"] for row in unusable]
    metrics = _counts(rows, len(unusable)) | _means(rows)
    write_summary(
        output_dir,
        command="measure",
        metrics=metrics,
        artefacts=artefacts,
        data_fingerprint=hash_file(output_dir / TABLE),
        warnings=warnings,
    )
    for warning in warnings[:_MAX_FAULTS]:
        print(f"Not measured: {warning}", file=sys.stderr)
    if len(warnings) > _MAX_FAULTS:
        print(f"… and {len(warnings) - _MAX_FAULTS} more, see the notes in {TABLE}", file=sys.stderr)
    notes = (f"Note: {note}." for note in _notes(rows, pixel_mm))
    print_summary("Bone in the images (means over the images)", metrics, artefacts, next_command, notes)
    return not unusable


def _counts(rows: Rows, unusable: int) -> dict[str, Any]:
    counts = {"without bone": sum(row["note"] == NO_BONE for row in rows), "not measured": unusable}
    return count_images(rows) | {name: count for name, count in counts.items() if count}


def _means(rows: Rows) -> dict[str, float]:
    """Average the measures over the images, separately for conditions and targets."""
    means = {}
    for role in dict.fromkeys(row.get("role", "") for row in rows):
        own = [row for row in rows if row.get("role", "") == role]
        means |= {f"{key}{f' of {role}s' if role else ''}": mean(own, key) for key in _AVERAGED}
    return means


def _notes(rows: Rows, pixel_mm: float) -> list[str]:
    """Explain assumed pixel sizes and empty cells."""
    notes = []
    assumed = sum(row.get("pixel_mm_from") == "setting" for row in rows)
    if assumed:
        notes.append(
            f"{assumed} of {len(rows)} files state no pixel size: their lengths in mm assume {pixel_mm:g} mm "
            "(the key pixel_mm)"
        )
    highest = max(HEIGHTS_MM)
    low = sum(math.isnan(row[f"width_at_{highest}mm_mm"]) for row in rows if not row["note"])
    if low:
        notes.append(
            f"widths at heights above a crest are empty cells: {low} bones are at most {highest} mm high"
        )
    return notes


def _panel(image: MeasuredImage, pixel_mm: float) -> MeasuredPanel:
    bone, _ = read_bone(image.path, pixel_mm)
    title = f"{image.name}, {image.role}" if image.role else image.name
    return MeasuredPanel(title, bone.raw, bone.mask, bone.size.pixel_mm, _lines(bone))


def _lines(bone: Bone) -> list[MeasuringLine]:
    """Return the lines along which a bone is measured, labelled in mm."""
    size, edge = bone.size, bone.size.pixel_mm
    column = size.crest_column + 0.5
    ends = ((size.base_row + 1, column), (size.crest_row, column))
    lines = [MeasuringLine("height", f"{size.height * edge:.1f}", *ends)]
    for name, (row, left, right) in width_ends(bone.mask, edge).items():
        label = f"{(right - left) * edge:.1f}"
        if name.removeprefix("width_") in FRACTIONS:
            line = MeasuringLine("widths at ¼, ½, ¾ of the height", label, (row, right), (row, left))
        else:
            line = MeasuringLine(_AT_HEIGHTS, label, (row, left), (row, right))
        lines.append(line)
    return lines
