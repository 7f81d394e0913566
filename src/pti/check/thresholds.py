"""Thresholds of the checks of pixels, and the robust standard deviation that some are measured in."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thresholds:
    """Limits from which on the checks report a fault.

    A limit of the form "max(absolute, N standard deviations)" adapts to the scatter of the set: standard
    deviations are robust (:func:`robust_std`) and counted from the median of the set. "Study" is
    `pti.benchmark suite=check images=2000`: 50 random styles of the phantom with 40 sound pairs each, and
    the same with injected faults; it was also tried by hand on a phantom of other origin (360 pairs) and on
    MRI (FLAIR and T1, 426 pairs). Limits that name no source were set on the default phantom.

    Attributes:
        border_tissue: fraction of the outermost pixels that are tissue; about 10 of the 1020 in 256 × 256.
        drift: change that a patient's quantiles from 10 to 90 % have in common, in units of the set's usual
            tissue range, or as natural logarithm of the ratio to the usual quantiles. Studied on 50 random
            styles with 6, 10 or 20 patients, the default phantom, a phantom of other origin and the MRI:
            1338 sound patients (each of the two images) reach 0.67 of the limits; tissue × 1.5 is found in
            90 %, × 0.6 in 96 %, × 1.25 in 35 %, half a range brighter or darker in 95 %.
        drift_contrast: the same for the logarithm of the patient's 2-98, 10-90 and 25-75 % ranges; sound
            patients of that study reach 0.79 of the limit.
        drift_patients: number of patients; fewer have no usual intensity.
        outlier_std: standard deviations from the set's median for drift, shift, rotation and correlation; a
            normal distribution exceeds 6 in one of 5 × 10^8 pairs.
        evidence: evidence (:func:`pti.check.pair_alignment.evidence`) from which on a displacement, a
            rotation or another partner counts. In the study, sound pairs have 2 and more for their true
            place, pairs displaced by 3 px or 3° 1.05 and more for theirs.
        swap_evidence: the same for a swap of two, which is chosen among many. Neighbouring slices of tiny
            jaws under noise of half the tissue's range reach 1.2; those really swapped have 1.33 and more.
        shift_px: displacement of the target in pixels. Sound pairs of the study reach 0.7; 2 px are less than
            the error of a ridge measured by hand.
        rotation_deg: rotation of the target in degrees. Sound pairs of the study reach 0.8; over a ridge of
            60 px, 1.5 degrees are 1.6 px.
        unlike_correlation: edge correlation as a fraction of the set's usual one; below it the two images
            show different things.
        coarse_swap_loss: largest loss of correlation on the coarse maps at which a swap is still compared
            closely; the coarse maps are off by less.
        swap_gain: gain of edge correlation by a swap of targets. In the study every swap of sound pairs
            loses, neighbouring slices 0.014 and more, which is what their swap gains.
        certain_swap_gain: the same, for an error instead of a warning; most swaps across patients exceed it.
        swap_imbalance: largest loss in one direction of a swap of two, in units of the mean gain of both
            directions, that noise can cause.
        swap_share_of_chain: fraction of a chain's gain that swaps of two must reach to replace the chain.
        misfit_std: standard deviations below the usual correlation at which a pair counts as mismatched.
        misfit_gain: gain of edge correlation by which another target must fit a mismatched pair better.
        exchanged_score: discriminant score (usual pair: 1) below which condition and target count as
            exchanged; more than seven standard deviations from the usual score.
        exchange_scatter: largest standard deviation of the discriminant scores (usual score: 1) at which the
            two folders are distinct enough to recognise exchanged pairs.
        copy_form: correlation of coarse forms at which two images are compared closely. Copies that were
            resized by 7 %, shifted and made noisy keep 0.98.
        copy_details: lowest correlation of edges inside the tissue of two copies. In the study, different
            patients reach 0.70; copies with 10 % noise, shifted or resized by 4 %, have 0.77 and more (MRI:
            0.74).
        copy_details_max: highest limit for that correlation: many copies in a set must not raise the limit so
            far that it hides them.
        copy_std: standard deviations of the correlation of details above the usual one.
    """

    border_tissue: float = 0.01
    drift: float = 0.2
    drift_contrast: float = 0.35
    drift_patients: int = 5
    outlier_std: float = 6.0
    evidence: float = 1.0
    swap_evidence: float = 1.3
    shift_px: float = 2.0
    rotation_deg: float = 1.5
    unlike_correlation: float = 0.6
    coarse_swap_loss: float = 0.05
    swap_gain: float = 0.007
    certain_swap_gain: float = 0.03
    swap_imbalance: float = 3.0
    swap_share_of_chain: float = 0.7
    misfit_std: float = 6.0
    misfit_gain: float = 0.03
    exchanged_score: float = -0.5
    exchange_scatter: float = 0.2
    copy_form: float = 0.95
    copy_details: float = 0.74
    copy_details_max: float = 0.85
    copy_std: float = 3.5


THRESHOLDS = Thresholds()


def robust_std(values: np.ndarray) -> np.ndarray:
    """Robust standard deviation along the first axis: 1.4826 × median absolute deviation."""
    return 1.4826 * np.median(np.abs(values - np.median(values, 0)), 0)
