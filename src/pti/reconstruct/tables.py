"""The figures of reconstructed images: a row each, their means, the worst by name."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.runs.manifest import Manifest
from pti.runs.summary import hash_config, print_summary, write_summary

METRICS = "metrics.csv"
AVERAGED = ("mae", "psnr", "ssim", "bone_dice", "bone_height_error_mm")

_COLUMNS = ("name", "patient", *AVERAGED, "bone_height_mm", "reconstructed_bone_height_mm", "pixel_mm")


def finish(
    output_dir: Path,
    manifest: Manifest,
    names: Sequence[str],
    data_range: float,
    data_range_meaning: str,
    checkpoint: Path,
) -> None:
    """Write ``metrics.csv`` and ``summary.json``, print the means and the worst.

    Args:
        output_dir: the command's folder.
        manifest: holds each image's figures and files.
        names: of the images, in order.
        data_range: for PSNR and SSIM, raw units.
        data_range_meaning: where it comes from, in words.
        checkpoint: what reconstructed them.
    """
    rows = [{"name": name, **manifest.rows[name]["figures"]} for name in names]
    write_text_atomically(output_dir / METRICS, _csv(rows))
    figures: dict[str, Any] = {"images": len(rows), "patients": len({row["patient"] for row in rows} - {""})}
    figures |= {name: _mean([row[name] for row in rows]) for name in AVERAGED}
    artefacts: dict[str, Path] = {
        "reconstructions": output_dir / "reconstructions",
        "comparisons": output_dir / "comparisons",
        "metrics": output_dir / METRICS,
    }
    worst = {"psnr": _worst(rows, "psnr", min), "bone height": _worst(rows, "bone_height_error_mm", max)}
    for what, row in worst.items():
        if row is not None:
            value = f"{row['psnr']:.2f} dB" if what == "psnr" else f"{row['bone_height_error_mm']:.3f} mm off"
            figures[f"worst {what}"] = f"{value}, {row['name']}"
            artefacts[f"worst {what}"] = output_dir / "comparisons" / f"{row['name']}.png"
    figures |= {"data_range": data_range, "data_range is": data_range_meaning}
    inputs = {name: manifest.rows[name]["input"] for name in names}
    write_summary(
        output_dir,
        command="reconstruct",
        figures=figures,
        artefacts=artefacts,
        data_fingerprint=hash_config(inputs)[:16],
        checkpoint=checkpoint,
    )
    print_summary("Reconstruction (means over the images)", figures, artefacts)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # An empty cell where there is no such figure, as tables elsewhere expect.
        writer.writerow({key: "" if _is_nan(row[key]) else row[key] for key in _COLUMNS})
    return text.getvalue()


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _worst(rows: Sequence[Mapping[str, Any]], key: str, pick: Any) -> Mapping[str, Any] | None:
    found = [row for row in rows if not _is_nan(row[key])]
    return pick(found, key=lambda row: row[key]) if found else None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
