"""What `evaluate` found, and what it writes of it: tables, ``report.html``, the summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pti.evaluate.scores import Evaluated, Scores
from pti.evaluate.summaries import ABSOLUTE, Difference, differences, summarize
from pti.metrics.bone_agreement import LENGTHS
from pti.metrics.bootstrap import Mean
from pti.metrics.calibration import Intervals
from pti.metrics.distribution import FEATURES, Distances
from pti.metrics.error_budget import ErrorComponent, HeightDistribution
from pti.metrics.memorization import Audit

COMPARED = (*ABSOLUTE[:4], "dice", "hausdorff95_mm", "ssim", "psnr", "mae")
"""Figures in which methods are compared pair by pair."""


@dataclass(frozen=True)
class CopiedImages:
    """An audit with the names that belong to it.

    Attributes:
        audit: the distances.
        samples: (Q,) ``NAME`` or ``NAME, sample 3`` of each generated image.
        files: (Q,) of the generated images.
        training: (R,) names of the training images.
        training_files: (R,) their files.
    """

    audit: Audit
    samples: Sequence[str]
    files: Sequence[Path]
    training: Sequence[str]
    training_files: Sequence[Path]


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report tells.

    Attributes:
        evaluated: the measurements.
        main: the method that the report is about; the others are beside it.
        intervals: measure -> coverage at each level, of the main method; empty where it has no intervals.
        budget: of the bone height's error.
        law: the known distribution of the heights; None where it isn't known.
        distances: of the sets, for each kind of features one of every method with images.
        copied: the memorisation audits.
        notes: what the reader must know: what was left out, or couldn't be done and why.
        provenance: what was evaluated, with what.
        seed: of the bootstrap.
    """

    evaluated: Evaluated
    main: str
    intervals: Mapping[str, Sequence[Intervals]] = field(default_factory=dict)
    budget: Sequence[ErrorComponent] = ()
    law: HeightDistribution | None = None
    distances: Sequence[Distances] = ()
    copied: Sequence[CopiedImages] = ()
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def scores(self) -> Scores:
        """Of the main method."""
        return self.evaluated.methods[self.main]

    def summaries(self) -> dict[str, dict[str, Mean]]:
        """Method -> figure -> mean; the KIDs are figures as well (``kid_lite0``)."""
        found = {name: summarize(scores, self.seed) for name, scores in self.evaluated.methods.items()}
        for distances in self.distances:
            found[distances.method][distances.figure] = distances.kid_mean()
        return found

    def differences(self) -> list[Difference]:
        """The main method against each other one."""
        found = differences(self.evaluated, self.main, COMPARED, self.seed)
        own = {row.features: row for row in self.distances if row.method == self.main}
        return found + [
            Difference(self.main, row.method, row.figure, own[row.features].kid_minus(row))
            for row in self.distances
            if row.method != self.main
        ]


def write_report(evaluation: Evaluation, output_dir: Path) -> dict[str, Path]:
    """Write the tables and the page.

    Returns:
        name -> path of each.
    """
    from pti.common.files import write_text_atomically
    from pti.evaluate.page import page
    from pti.evaluate.tables import tables

    summaries, compared = evaluation.summaries(), evaluation.differences()
    contents = tables(evaluation, summaries, compared)
    contents["report.html"] = page(evaluation, summaries, compared)
    for name, text in contents.items():
        write_text_atomically(output_dir / name, text)
    return {Path(name).stem.replace("_", " "): output_dir / name for name in reversed(contents)}


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """The figures for ``summary.json`` and the terminal."""
    summaries = evaluation.summaries()
    scores, own = evaluation.scores, summaries[evaluation.main]
    found: dict[str, Any] = {
        "slices": len(scores.names),
        "patients": len(set(scores.patients)),
        "samples": scores.samples,
    }
    for name in ("height_abs_error_mm", "height_error_mm", "width_half_abs_error_mm", "dice", "ssim", "psnr"):
        if name in own:
            found[name] = own[name].value
    if scores.samples > 1:
        found |= {name: own[name].value for name in ("height_crps_mm", "height_spread_mm", "diversity")}
    for row in evaluation.intervals.get(LENGTHS[0], ()):
        found[f"height {row.level:.0%} interval holds"] = row.coverage.value
        if row.corrected_coverage is not None:
            found[f"height {row.level:.0%} interval, corrected, holds"] = row.corrected_coverage.value
    for method, summary in summaries.items():
        if method != evaluation.main:
            found[f"height_abs_error_mm of {method}"] = summary["height_abs_error_mm"].value
    for share in evaluation.budget:
        found[f"height error (rms, mm), {share.source}"] = share.root_mean_square
    for distances in evaluation.distances:
        of = "" if distances.method == evaluation.main else f" of {distances.method}"
        found[f"KID ({FEATURES[distances.features]}){of}"] = distances.kid
    for copied in evaluation.copied:
        found[f"copies training images ({copied.audit.space})"] = copied.audit.copies
    worst = max(range(len(scores.names)), key=lambda index: _known(abs(scores.error("height")[index])))
    found["worst slice"] = f"{scores.error('height')[worst]:+.2f} mm, {scores.names[worst]}"
    return found


def _known(value: float) -> float:
    return value if value == value else -1.0
