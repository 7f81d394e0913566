"""Outputs of an evaluation: tables, ``report.html`` and the values of the summary."""

from pathlib import Path
from typing import Any

import numpy as np

from pti.common.files import write_text_atomically
from pti.evaluate.gallery import MEDIAN_GHOST, closeups
from pti.evaluate.page import page
from pti.evaluate.result import Evaluation
from pti.evaluate.tables import tables
from pti.metrics.changed_region import GHOST, REGIONS
from pti.metrics.distribution import FEATURES

CLOSEUP = "closeup.png"
"""The changed tissue of the slice with the median ghost index."""

_HEADLINES = (
    *("height_abs_error_mm", "height_error_mm", "width_half_abs_error_mm"),
    *("dice", "crest_roughness_ratio", "ssim", "psnr"),
)
_HEADLINES_OF_SAMPLES = ("height_crps_mm", "height_spread_mm", "diversity")
_HEADLINES_OF_REGIONS = (
    GHOST,
    *(f"{region}_{metric}" for region in REGIONS for metric in ("texture_amplitude", "texture_correlation")),
)


def write_report(evaluation: Evaluation, output_dir: Path) -> dict[str, Path]:
    """Write the tables and the page; return name -> path of each."""
    summaries, differences = evaluation.summaries(), evaluation.differences()
    contents = tables(evaluation, summaries, differences)
    pictures = closeups(evaluation)
    contents["report.html"] = page(evaluation, summaries, differences, pictures)
    for name, text in contents.items():
        write_text_atomically(output_dir / name, text)
    if pictures:
        # Imported here because torch takes seconds, in which worker processes measure already.
        from pti.inference.pictures import save_picture

        group = pictures.get(MEDIAN_GHOST) or next(iter(pictures.values()))
        save_picture(group[0], output_dir / CLOSEUP)
    names = [*([CLOSEUP] if pictures else []), *contents]
    return {Path(name).stem.replace("_", " "): output_dir / name for name in reversed(names)}


def summary_values(evaluation: Evaluation) -> dict[str, Any]:
    """Return the values for ``summary.json`` and the terminal."""
    summaries, scores = evaluation.summaries(), evaluation.scores
    own = summaries[evaluation.main]
    values: dict[str, Any] = {
        "slices": len(scores.names),
        "patients": len(set(scores.patients)),
        **({} if scores.quantiles else {"samples": scores.samples}),
    }
    names = _HEADLINES + (_HEADLINES_OF_SAMPLES if scores.samples > 1 else ()) + _HEADLINES_OF_REGIONS
    values |= {name: own[name].value for name in names if name in own}
    for row in evaluation.intervals.get("height", ()):
        values[f"height {row.level:.0%} interval holds"] = row.coverage.value
        if row.corrected_coverage is not None:
            values[f"height {row.level:.0%} interval, corrected, holds"] = row.corrected_coverage.value
    for row in evaluation.bands:
        if row.coverage is not None and row.width is not None:
            values[f"outline {row.level:.0%} band holds"] = row.coverage.value
            values[f"outline {row.level:.0%} band, width in mm"] = row.width.value
    for method, summary in summaries.items():
        if method != evaluation.main:
            values[f"height_abs_error_mm of {method}"] = summary["height_abs_error_mm"].value
    for component in evaluation.budget:
        values[f"height error (rms, mm), {component.source}"] = component.root_mean_square
    for distance in evaluation.distances:
        of = "" if distance.method == evaluation.main else f" of {distance.method}"
        values[f"KID ({FEATURES[distance.features]}){of}"] = distance.kid
    for audited in evaluation.audits:
        values[f"copies training images ({audited.audit.space})"] = audited.audit.copies
    errors = scores.error("height")
    worst = int(np.nan_to_num(np.abs(errors), nan=-1.0).argmax())
    values["worst slice"] = f"{errors[worst]:+.2f} mm, {scores.names[worst]}"
    return values
