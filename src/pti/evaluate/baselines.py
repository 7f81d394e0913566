"""Baselines of an evaluation: simple methods for images and sizes, fitted on training pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pti.data.layouts import Pair
from pti.evaluate.image_baselines import ImageBaseline, lookup_of_others, lookup_of_training, unchanged
from pti.evaluate.scores import Case, Measurements, Scores
from pti.inference.bone_sizes import bone_sizes
from pti.metrics.size_baselines import (
    SizeBaseline,
    TrainingSizes,
    leave_one_patient_out,
    linear_regression,
    minus_mean_loss,
)

UNCHANGED = "condition unchanged"
LOOKUP = "intensity look-up on the condition"
SIZE_BASELINES: Mapping[str, SizeBaseline] = {
    "condition − mean loss": minus_mean_loss,
    "linear regression on the condition": linear_regression,
}


@dataclass(frozen=True)
class FittedBaselines:
    """Fit of the baselines on training pairs.

    Attributes:
        sizes: Sizes of the bones, mm.
        lookup: Intensity look-up.
    """

    sizes: TrainingSizes
    lookup: ImageBaseline


def fit_baselines(pairs: Sequence[Pair], pixel_mm: float) -> FittedBaselines:
    """Measure training pairs and fit the look-up.

    Args:
        pairs: Pairs with both images.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
    """
    files = [(pair.condition, pair.target) for pair in pairs if pair.condition and pair.target]
    conditions, targets = (bone_sizes(role, pixel_mm) for role in zip(*files, strict=True))
    return FittedBaselines(TrainingSizes(conditions, targets), lookup_of_training(files))


def image_baselines(
    cases: Sequence[Case], fitted: FittedBaselines | None, notes: list[str]
) -> dict[str, ImageBaseline]:
    """Return the methods that make an image from the condition; none unless every case has a condition.

    Args:
        cases: The slices.
        fitted: The fit on training pairs; None = fit on the other patients of the set, for each patient.
        notes: List to append notes for the reader to.
    """
    pairs = [(case.condition, case.target) for case in cases if case.condition]
    if len(pairs) < len(cases):
        return {}
    if fitted is not None:
        return {UNCHANGED: unchanged, LOOKUP: fitted.lookup}
    patients = [case.patient for case in cases]
    if len(set(patients)) < 2:
        notes.append(
            "without training pairs, the baselines are fitted on other patients: they need two patients"
        )
        return {UNCHANGED: unchanged}
    notes.append("the baselines of each patient were fitted on the other patients of this set")
    return {UNCHANGED: unchanged, LOOKUP: lookup_of_others(pairs, patients)}


def with_size_baselines(measurements: Measurements, fitted: FittedBaselines | None) -> Measurements:
    """Add the methods that predict sizes from the condition's; arguments as `image_baselines`."""
    patients, conditions = measurements.patients, measurements.conditions
    if conditions is None or (fitted is None and len(set(patients)) < 2):
        return measurements
    methods = dict(measurements.methods)
    scores = next(iter(methods.values()))
    for name, baseline in SIZE_BASELINES.items():
        if fitted is None:
            sizes = leave_one_patient_out(baseline, conditions, scores.true, patients)
        else:
            sizes = baseline(fitted.sizes, conditions)
        predicted = {measure: values[:, None] for measure, values in sizes.items()}
        methods[name] = Scores(
            name, scores.names, scores.patients, scores.pixel_mm, {}, predicted, scores.true
        )
    return replace(measurements, methods=methods)
