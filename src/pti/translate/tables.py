"""Write the tables and the summary of translated images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pti.common.path_settings import setting
from pti.common.tables import write_csv
from pti.data.layouts import abbreviate
from pti.inference.following import data_arguments
from pti.inference.pictures import predicted_height
from pti.inference.tables import Rows, count_images, extreme, mean
from pti.inference.translator import IMAGE_TABLE, SAMPLE_TABLE, Translations
from pti.inference.trust import REASON, TRUST
from pti.metrics.calibration import INTERVAL
from pti.metrics.outline_band import BAND
from pti.metrics.translation import TARGET_METRICS
from pti.runs.arguments import typed_arguments
from pti.runs.checkpoint import Checkpoint
from pti.runs.summary import from_here, print_summary, write_summary

_SAMPLE_COLUMNS = ("name", "patient", "sample", "seed", "file", "is_median", "bone_height_mm")
_SAMPLE_TARGET_COLUMNS = ("height_error_mm", *TARGET_METRICS)
_IMAGE_COLUMNS = ("name", "patient", "pixel_mm", "condition_height_mm", "median_sample", "bone_height_mm")
_IMAGE_COLUMNS += ("height_spread_mm",)
SPREAD_OF_MODELS = "height_spread_of_models_mm"
_IMAGE_TARGET_COLUMNS = ("target_height_mm", "height_error_mm", "offset_height_error_mm", *TARGET_METRICS)
_BAND_LEVEL, _, _BAND_WIDTH = BAND

_MAX_LINES = 20  # images listed in the terminal


def finish(
    output_dir: Path, translations: Translations, checkpoint: Checkpoint | Path, mean_loss_mm: float | None
) -> None:
    """Write ``manifest.csv``, ``images.csv`` and ``summary.json``; print the means and the worst image.

    Args:
        output_dir: The command's output folder.
        translations: The measurements.
        checkpoint: The checkpoint that translated the images.
        mean_loss_mm: Mean height loss from condition to target in the training split; None = unknown.
    """
    models = translations.sampling["models"]
    rows = [
        _with_offset_error(row, mean_loss_mm) | _spread_of_models(row, models) for row in translations.rows
    ]
    known = [row for row in rows if "target_height_mm" in row]
    interval = INTERVAL if translations.calibration is not None else ()
    band = (_BAND_LEVEL, _BAND_WIDTH) if any(_BAND_LEVEL in row for row in rows) else ()
    judged = (TRUST, REASON) if any(TRUST in row for row in rows) else ()
    columns = (*_SAMPLE_COLUMNS, *interval, *judged, *(_SAMPLE_TARGET_COLUMNS if known else ()))
    write_csv(output_dir / SAMPLE_TABLE, columns, _sample_rows(rows, (*interval, *judged)))
    spread = (SPREAD_OF_MODELS,) if models > 1 else ()
    columns = (*_IMAGE_COLUMNS, *spread, *interval, *band, *judged)
    write_csv(output_dir / IMAGE_TABLE, (*columns, *(_IMAGE_TARGET_COLUMNS if known else ())), rows)
    metrics = _metrics(rows, translations, mean_loss_mm)
    artefacts: dict[str, Path] = {
        "samples": output_dir / "samples",
        "pictures": output_dir / "pictures",
        "manifest": output_dir / SAMPLE_TABLE,
        "images": output_dir / IMAGE_TABLE,
    }
    if (worst := extreme(known, "height_error_mm", max)) is not None:
        metrics["worst bone height"] = f"{worst['height_error_mm']:.3f} mm off, {worst['name']}"
        artefacts["worst bone height"] = output_dir / "pictures" / f"{worst['name']}.png"
    write_summary(
        output_dir,
        command="translate",
        metrics=metrics,
        artefacts=artefacts,
        data_fingerprint=translations.data_fingerprint,
        checkpoint=checkpoint,
        seed=translations.sampling["seed"],
        warnings=translations.warnings,
    )
    _print_heights(rows)
    if translations.calibration is None and models == 1 and isinstance(checkpoint, Checkpoint):
        # Evaluation tells how far to trust the heights, and writes the calibration of their intervals.
        data = data_arguments(checkpoint.config["data"], typed_arguments())
        following = f"python -m pti.evaluate {setting('ckpt', from_here(checkpoint.path))}{data}"
    else:
        folder = setting("prediction_dir", from_here(output_dir))
        following = f"python -m pti.evaluate {folder} target_dir=FOLDER"
    judgement = []
    if judged:
        unlike = [str(row["name"]) for row in rows if row.get(REASON)]
        which = f": {abbreviate(unlike)}. {IMAGE_TABLE} says why" if unlike else ""
        judgement = [f"{len(unlike)} of {len(rows)} images are unlike the training{which}."]
    print_summary("Translation (means over the images)", metrics, artefacts, following, judgement)


def _metrics(rows: Rows, translations: Translations, mean_loss_mm: float | None) -> dict[str, Any]:
    """Return counts, settings and means, as the summary shows them."""
    metrics: dict[str, Any] = dict(count_images(rows))
    metrics |= {
        key: value
        for key, value in translations.sampling.items()
        if value is not None and key != "seed" and (key, value) != ("models", 1)
    }
    metrics |= {key: mean(rows, key) for key in ("condition_height_mm", "bone_height_mm")}
    if translations.sampling["samples"] > 1:
        metrics["height_spread_mm"] = mean(rows, "height_spread_mm")
    if translations.sampling["models"] > 1:
        metrics["height_spread_of_models_mm"] = mean(rows, SPREAD_OF_MODELS)
    if translations.calibration is not None:
        metrics |= {"calibration": translations.calibration, **_interval_metrics(rows), **_band_metrics(rows)}
    if any(TRUST in row for row in rows):
        metrics["images_unlike_training"] = sum(bool(row.get(REASON)) for row in rows)
    if known := [row for row in rows if "target_height_mm" in row]:
        metrics |= _target_metrics(known, translations, mean_loss_mm)
    return metrics


def _print_heights(rows: Rows) -> None:
    for row in rows[:_MAX_LINES]:
        mark = f"; unlike the training: {row[REASON]}" if row.get(REASON) else ""
        print(f"{row['name']}: height {predicted_height(row)}{mark}")
    if len(rows) > _MAX_LINES:
        print(f"… and {len(rows) - _MAX_LINES} more in {IMAGE_TABLE}")


def _with_offset_error(row: dict[str, Any], mean_loss_mm: float | None) -> dict[str, Any]:
    """Add the error of the offset baseline: the condition's height minus the mean loss."""
    if mean_loss_mm is None or "target_height_mm" not in row:
        return row
    predicted = row["condition_height_mm"] - mean_loss_mm
    return {**row, "offset_height_error_mm": abs(predicted - row["target_height_mm"])}


def _spread_of_models(row: dict[str, Any], models: int) -> dict[str, float]:
    """Return the standard deviation of the mean heights of an ensemble's models: what training left open."""
    if models == 1:
        return {}
    heights = [sample["bone_height_mm"] for sample in row["samples"]]
    return {SPREAD_OF_MODELS: stdev(fmean(heights[model::models]) for model in range(models))}


def _target_metrics(rows: Rows, translations: Translations, mean_loss_mm: float | None) -> dict[str, Any]:
    """Average everything that is measured against targets."""
    metrics: dict[str, Any] = {key: mean(rows, key) for key in ("target_height_mm", "height_error_mm")}
    if mean_loss_mm is not None:
        metrics["offset_height_error_mm"] = mean(rows, "offset_height_error_mm")
        metrics["training_height_loss_mm"] = mean_loss_mm
    several = translations.sampling["samples"] > 1
    metrics |= {f"{key}_of_mean" if several else key: mean(rows, key) for key in TARGET_METRICS}
    if several:
        samples = [sample for row in rows for sample in row["samples"]]
        metrics |= {f"{key}_of_sample": mean(samples, key) for key in ("height_error_mm", *TARGET_METRICS)}
    return metrics | {
        "data_range": translations.data_range,
        "data_range is": translations.data_range_meaning,
    }


def _interval_metrics(rows: Rows) -> dict[str, Any]:
    """Return level and mean width of the intervals, and the share of known targets that they contain."""
    level, low, high = INTERVAL
    rows = [row for row in rows if level in row]
    if not rows:
        return {}
    metrics = {level: rows[0][level]}
    metrics["height_interval_width_mm"] = sum(row[high] - row[low] for row in rows) / len(rows)
    contained = [
        # The tolerance covers a bound that equals the target but was rounded differently.
        row[low] - 1e-9 <= row["target_height_mm"] <= row[high] + 1e-9
        for row in rows
        if "target_height_mm" in row
    ]
    return metrics | ({"height_interval_holds": sum(contained) / len(contained)} if contained else {})


def _band_metrics(rows: Rows) -> dict[str, Any]:
    """Return level and mean width of the outline's bands; empty without bands."""
    level = next((row[_BAND_LEVEL] for row in rows if _BAND_LEVEL in row), None)
    return {} if level is None else {_BAND_LEVEL: level, _BAND_WIDTH: mean(rows, _BAND_WIDTH)}


def _sample_rows(rows: Rows, shared: Sequence[str]) -> list[Mapping[str, Any]]:
    return [
        {key: row[key] for key in ("name", "patient", *shared) if key in row}
        | {**sample, "is_median": int(sample["sample"] == row["median_sample"])}
        for row in rows
        for sample in row["samples"]
    ]
