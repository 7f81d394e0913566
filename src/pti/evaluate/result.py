"""Result of an evaluation, and the summaries and differences that derive from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pti.evaluate.scores import Measurements, Scores
from pti.evaluate.summaries import ABSOLUTE, Difference, differences, summarize
from pti.metrics.bootstrap import Mean
from pti.metrics.calibration import IntervalCoverage
from pti.metrics.distribution import SetDistance
from pti.metrics.error_budget import ErrorComponent, HeightDistribution
from pti.metrics.memorization import Audit
from pti.metrics.outline_band import BandCoverage

COMPARED = (*ABSOLUTE[:4], "dice", "hausdorff95_mm", "ssim", "psnr", "mae")
"""Metrics in which methods are compared pair by pair."""


@dataclass(frozen=True)
class AuditedImages:
    """A memorization audit with the names and files of its images.

    Attributes:
        audit: The distances.
        samples: (Q,) ``NAME`` or ``NAME, sample 3`` of each generated image.
        files: (Q,) files of the generated images.
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
    """Everything in the report.

    Attributes:
        measurements: The measurements of all methods.
        main: The method that the report is about.
        intervals: Measure -> coverage of the main method's intervals at each level; empty without intervals.
        budget: Error budget of the bone height.
        heights: Known distribution of the true heights; None = unknown.
        distances: Set distances of every method with images, for each kind of features.
        audits: Memorization audits.
        notes: Notes for the reader on what was left out and why.
        provenance: What was evaluated, with what.
        seed: Seed of the bootstrap.
        bands: Coverage of the band of the main method's outline at each level; empty without a calibration.
    """

    measurements: Measurements
    main: str
    intervals: Mapping[str, Sequence[IntervalCoverage]] = field(default_factory=dict)
    budget: Sequence[ErrorComponent] = ()
    heights: HeightDistribution | None = None
    distances: Sequence[SetDistance] = ()
    audits: Sequence[AuditedImages] = ()
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    bands: Sequence[BandCoverage] = ()

    @property
    def scores(self) -> Scores:
        """Scores of the main method."""
        return self.measurements.methods[self.main]

    def summaries(self) -> dict[str, dict[str, Mean]]:
        """Return method -> metric -> mean, including the KIDs (``kid_lite0``) and the outline's bands."""
        summaries = {name: summarize(scores, self.seed) for name, scores in self.measurements.methods.items()}
        for distance in self.distances:
            summaries[distance.method][distance.metric] = distance.kid_mean()
        for row in self.bands:
            if row.coverage is not None and row.width is not None:
                name = f"outline_band_{100 * row.level:.0f}"
                summaries[self.main] |= {f"{name}_coverage": row.coverage, f"{name}_width_mm": row.width}
        return summaries

    def differences(self) -> list[Difference]:
        """Compare the main method with each other one."""
        own = {row.features: row for row in self.distances if row.method == self.main}
        return differences(self.measurements, self.main, COMPARED, self.seed) + [
            Difference(self.main, row.method, row.metric, own[row.features].kid_minus(row))
            for row in self.distances
            if row.method != self.main and row.features in own
        ]
