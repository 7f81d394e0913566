"""The trivial methods that a model is judged beside, and what they are fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pti.data.layouts import Pair
from pti.evaluate.image_baselines import ImageBaseline, lookup_of_others, lookup_of_training, unchanged
from pti.evaluate.scores import Case, Evaluated, sizes_of
from pti.metrics.size_baselines import (
    Baseline,
    Training,
    leave_one_patient_out,
    linear_regression,
    minus_mean_loss,
)

UNCHANGED = "condition unchanged"
LOOKUP = "intensity look-up on the condition"
SIZES: Mapping[str, Baseline] = {
    "condition − mean loss": minus_mean_loss,
    "linear regression on the condition": linear_regression,
}


@dataclass(frozen=True)
class Fitted:
    """What the baselines take from training pairs.

    Attributes:
        sizes: of the bones, mm.
        lookup: from intensity to intensity.
    """

    sizes: Training
    lookup: ImageBaseline


def fit_baselines(pairs: Sequence[Pair], pixel_mm: float) -> Fitted:
    """Measure complete training pairs.

    Args:
        pairs: with both images.
        pixel_mm: edge of a pixel in mm, for files that don't say.
    """
    files = [(pair.condition, pair.target) for pair in pairs if pair.condition and pair.target]
    conditions, targets = (sizes_of(list(side), pixel_mm) for side in zip(*files, strict=True))
    return Fitted(Training(conditions, targets), lookup_of_training(files))


def image_baselines(
    cases: Sequence[Case], fitted: Fitted | None, notes: list[str]
) -> dict[str, ImageBaseline]:
    """The methods that make an image from the condition's: method -> what makes it; none without conditions.

    Args:
        cases: the slices.
        fitted: on training pairs; None = on the other patients of the set, in turn.
        notes: gets what the reader must know.
    """
    pairs: list[tuple[Path, Path]] = [(case.condition, case.target) for case in cases if case.condition]
    if len(pairs) < len(cases):
        return {}
    if fitted is not None:
        return {UNCHANGED: unchanged, LOOKUP: fitted.lookup}
    patients = [case.patient for case in cases]
    if len(set(patients)) < 2:
        notes.append("without training pairs, baselines need two patients: each is fitted on the others")
        return {UNCHANGED: unchanged}
    notes.append("the baselines were fitted on the other patients of this set, for each patient in turn")
    return {UNCHANGED: unchanged, LOOKUP: lookup_of_others(pairs, patients)}


def with_size_baselines(evaluated: Evaluated, fitted: Fitted | None) -> Evaluated:
    """The same with the methods that predict sizes from the condition's; arguments as `image_baselines`."""
    scores = next(iter(evaluated.methods.values()))
    if evaluated.conditions is None or (fitted is None and len(set(scores.patients)) < 2):
        return evaluated
    methods = dict(evaluated.methods)
    for name, baseline in SIZES.items():
        if fitted is None:
            sizes = leave_one_patient_out(baseline, evaluated.conditions, scores.true, scores.patients)
        else:
            sizes = baseline(fitted.sizes, evaluated.conditions)
        predicted = {measure: values[:, None] for measure, values in sizes.items()}
        methods[name] = replace(scores, method=name, figures={}, predicted=predicted, diversity=None)
    return replace(evaluated, methods=methods)
