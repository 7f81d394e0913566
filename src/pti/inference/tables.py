"""The figures of translated images: a row a sample, a row an image, their means, the worst by name."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.drawing.height_text import height_in_words
from pti.metrics.calibration import INTERVAL
from pti.metrics.translation import OF_THE_MEAN
from pti.runs.summary import print_summary, write_summary

SAMPLE_TABLE, IMAGE_TABLE = TABLES = ("manifest.csv", "images.csv")

_SAMPLE_COLUMNS = ("name", "patient", "sample", "seed", "file", "is_median", "bone_height_mm")
_SAMPLE_COLUMNS_OF_TARGET = ("height_error_mm", *OF_THE_MEAN)
_IMAGE_COLUMNS = ("name", "patient", "pixel_mm", "condition_height_mm", "median_sample", "bone_height_mm")
_IMAGE_COLUMNS += ("height_spread_mm",)
_IMAGE_COLUMNS_OF_TARGET = ("target_height_mm", "height_error_mm", "offset_height_error_mm", *OF_THE_MEAN)

_MOST_LINES = 20  # images that the terminal names


@dataclass(frozen=True)
class Translations:
    """What was made of a list of images.

    Attributes:
        rows: figures of each image, see `translation_figures` and `height_interval` in
            `pti.metrics.translation`, with ``name``, ``patient``, ``pixel_mm``, and each sample's ``file``,
            ``sample`` and ``seed``.
        sampling: samples, sampler, steps, guidance_scale and seed, as plain values.
        data_range: for PSNR and SSIM, raw units.
        data_range_meaning: where it comes from, in words.
        data_fingerprint: of the images that were translated.
        calibration: where the corrections of the intervals come from, in words; None = no intervals.
    """

    rows: list[dict[str, Any]]
    sampling: dict[str, Any]
    data_range: float
    data_range_meaning: str
    data_fingerprint: str
    calibration: str | None = None


def finish(output_dir: Path, found: Translations, checkpoint: Path, mean_loss_mm: float | None) -> None:
    """Write ``manifest.csv``, ``images.csv`` and ``summary.json``, print the means and the worst.

    Args:
        output_dir: the command's folder.
        found: what was made.
        checkpoint: what made it.
        mean_loss_mm: how much lower the training side's targets are than their conditions, mean; None where
            that isn't known.
    """
    rows = [_with_offset(row, mean_loss_mm) for row in found.rows]
    known = any("target_height_mm" in row for row in rows)
    interval = INTERVAL if found.calibration is not None else ()
    write_text_atomically(output_dir / SAMPLE_TABLE, _sample_table(rows, interval, known))
    columns = _IMAGE_COLUMNS + interval + (_IMAGE_COLUMNS_OF_TARGET if known else ())
    write_text_atomically(output_dir / IMAGE_TABLE, _csv(columns, rows))
    figures: dict[str, Any] = {"images": len(rows), "patients": len({row["patient"] for row in rows} - {""})}
    figures |= {key: value for key, value in found.sampling.items() if value is not None and key != "seed"}
    figures |= {key: _mean(rows, key) for key in ("condition_height_mm", "bone_height_mm")}
    if found.sampling["samples"] > 1:
        figures["height_spread_mm"] = _mean(rows, "height_spread_mm")
    if found.calibration is not None:
        figures |= _of_intervals(rows, found.calibration)
    artefacts: dict[str, Path] = {
        "samples": output_dir / "samples",
        "pictures": output_dir / "pictures",
        "manifest": output_dir / SAMPLE_TABLE,
        "images": output_dir / IMAGE_TABLE,
    }
    if known:
        figures |= _of_targets(rows, found, mean_loss_mm)
        worst = max((row for row in rows if "height_error_mm" in row), key=lambda row: row["height_error_mm"])
        figures["worst bone height"] = f"{worst['height_error_mm']:.3f} mm off, {worst['name']}"
        artefacts["worst bone height"] = output_dir / "pictures" / f"{worst['name']}.png"
    write_summary(
        output_dir,
        command="translate",
        figures=figures,
        artefacts=artefacts,
        data_fingerprint=found.data_fingerprint,
        checkpoint=checkpoint,
        seed=found.sampling["seed"],
    )
    for row in rows[:_MOST_LINES]:
        print(f"{row['name']}: height {height_in_words(row)}")
    if len(rows) > _MOST_LINES:
        print(f"… and {len(rows) - _MOST_LINES} more in {IMAGE_TABLE}")
    print_summary("Translation (means over the images)", figures, artefacts)


def _with_offset(row: dict[str, Any], mean_loss_mm: float | None) -> dict[str, Any]:
    """The row with the error of the offset baseline: the dente height minus what is lost on average."""
    if mean_loss_mm is None or "target_height_mm" not in row:
        return row
    predicted = row["condition_height_mm"] - mean_loss_mm
    return {**row, "offset_height_error_mm": abs(predicted - row["target_height_mm"])}


def _of_targets(
    rows: Sequence[Mapping[str, Any]], found: Translations, mean_loss_mm: float | None
) -> dict[str, Any]:
    """Means of all that is measured against targets."""
    rows = [row for row in rows if "target_height_mm" in row]
    figures: dict[str, Any] = {"target_height_mm": _mean(rows, "target_height_mm")}
    figures["height_error_mm"] = _mean(rows, "height_error_mm")
    if mean_loss_mm is not None:
        figures["offset_height_error_mm"] = _mean(rows, "offset_height_error_mm")
        figures["training_height_loss_mm"] = mean_loss_mm
    several = found.sampling["samples"] > 1
    figures |= {f"{key}_of_mean" if several else key: _mean(rows, key) for key in OF_THE_MEAN}
    if several:
        samples = [sample for row in rows for sample in row["samples"]]
        keys = ("height_error_mm", *OF_THE_MEAN)
        figures |= {f"{key}_of_sample": _mean(samples, key) for key in keys}
    return figures | {"data_range": found.data_range, "data_range is": found.data_range_meaning}


def _of_intervals(rows: Sequence[Mapping[str, Any]], calibration: str) -> dict[str, Any]:
    """What the intervals promise, how wide they are, and the share of known targets that they hold."""
    level, low, high = INTERVAL
    rows = [row for row in rows if level in row]
    figures: dict[str, Any] = {"calibration": calibration}
    if rows:
        figures[level] = rows[0][level]
        figures["height_interval_width_mm"] = sum(row[high] - row[low] for row in rows) / len(rows)
    held = [
        # An end that coincides with the target holds it, also when both were rounded differently.
        row[low] - 1e-9 <= row["target_height_mm"] <= row[high] + 1e-9
        for row in rows
        if "target_height_mm" in row
    ]
    return figures | ({"height_interval_holds": sum(held) / len(held)} if held else {})


def _sample_table(rows: Sequence[Mapping[str, Any]], interval: Sequence[str], known: bool) -> str:
    columns = (*_SAMPLE_COLUMNS, *interval, *(_SAMPLE_COLUMNS_OF_TARGET if known else ()))
    samples = []
    for row in rows:
        shared = {key: row[key] for key in ("name", "patient", *interval) if key in row}
        for sample in row["samples"]:
            samples.append({**shared, **sample, "is_median": int(sample["sample"] == row["median_sample"])})
    return _csv(columns, samples)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # An empty cell where there is no such figure, as tables elsewhere expect.
        writer.writerow({key: "" if _is_nan(row.get(key, "")) else row.get(key, "") for key in columns})
    return text.getvalue()


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    finite = [row[key] for row in rows if key in row and math.isfinite(row[key])]
    return sum(finite) / len(finite) if finite else math.nan


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
