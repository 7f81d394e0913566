"""Write the table and the summary of reconstructed images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pti.common.path_settings import setting
from pti.common.tables import write_csv
from pti.inference.following import data_arguments
from pti.inference.reconstructions import COMPARISONS, RAW
from pti.inference.tables import count_images, extreme, mean
from pti.runs.arguments import typed_arguments
from pti.runs.checkpoint import Checkpoint
from pti.runs.manifest import Manifest
from pti.runs.summary import from_here, hash_config, print_summary, write_summary

METRICS = "metrics.csv"
AVERAGED = ("mae", "psnr", "ssim", "bone_dice", "bone_height_error_mm")

_COLUMNS = ("name", "patient", *AVERAGED, "bone_height_mm", "reconstructed_bone_height_mm", "pixel_mm")


def finish(
    output_dir: Path,
    manifest: Manifest,
    names: Sequence[str],
    data_range: float,
    data_range_meaning: str,
    checkpoint: Checkpoint | Path,
    warnings: Sequence[str] = (),
) -> None:
    """Write ``metrics.csv`` and ``summary.json``; print the means and the worst images.

    Args:
        output_dir: The command's output folder.
        manifest: Holds the metrics and files of each image.
        names: Names of the images, in order.
        data_range: For PSNR and SSIM, raw units.
        data_range_meaning: How the data range was chosen.
        checkpoint: The checkpoint that reconstructed the images.
        warnings: Sentences on images that are unlike those of the training.
    """
    rows = [{"name": name, **manifest.rows[name]["figures"]} for name in names]
    write_csv(output_dir / METRICS, _COLUMNS, rows)
    metrics: dict[str, Any] = {**count_images(rows), **{name: mean(rows, name) for name in AVERAGED}}
    artefacts: dict[str, Path] = {
        "reconstructions": output_dir / RAW,
        "comparisons": output_dir / COMPARISONS,
        "metrics": output_dir / METRICS,
    }
    worst = {
        "worst psnr": (extreme(rows, "psnr", min), "{psnr:.2f} dB, {name}"),
        "worst bone height": (
            extreme(rows, "bone_height_error_mm", max),
            "{bone_height_error_mm:.3f} mm off, {name}",
        ),
    }
    for title, (row, text) in worst.items():
        if row is not None:
            metrics[title] = text.format(**row)
            artefacts[title] = output_dir / COMPARISONS / f"{row['name']}.png"
    metrics |= {"data_range": data_range, "data_range is": data_range_meaning}
    write_summary(
        output_dir,
        command="reconstruct",
        metrics=metrics,
        artefacts=artefacts,
        data_fingerprint=hash_config({name: manifest.rows[name]["input"] for name in names})[:16],
        checkpoint=checkpoint,
        warnings=warnings,
    )
    if isinstance(checkpoint, Checkpoint):
        path, data = checkpoint.path, data_arguments(checkpoint.config["data"], typed_arguments())
    else:
        path, data = checkpoint, ""
    following = f"python -m pti.analyze {setting('ckpt', from_here(path))}{data}"
    print_summary("Reconstruction (means over the images)", metrics, artefacts, following)
