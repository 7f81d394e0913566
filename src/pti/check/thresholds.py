"""Thresholds of the checks of pixels, and the robust standard deviation that some are measured in."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thresholds:
    """Limits from which on the checks report a fault.

    A limit of the form "max(absolute, N standard deviations)" adapts to the scatter of the set: standard
    deviations are robust (:func:`robust_std`) and counted from the median of the set. Where no other source
    is named, a value was set on the built-in phantom.

    Attributes:
        border_tissue: fraction of the outermost pixels that are tissue; about 10 of the 1020 in 256 × 256.
        drift: shift of a patient's median intensity in units of the set's usual tissue range, and natural
            logarithm of the ratio of the patient's range to the usual one.
        drift_patients: number of patients; fewer have no usual intensity.
        outlier_std: standard deviations from the set's median for drift, shift, rotation and correlation; a
            normal distribution exceeds 6 in one of 5 × 10^8 pairs.
        shift_px: displacement of the target in pixels. Sound pairs reach 0.5; 2 px are less than the error of
            a ridge measured by hand.
        rotation_deg: rotation of the target in degrees. Sound pairs reach 0.4; over a ridge of 60 px, 1.5
            degrees are 1.6 px.
        unlike_correlation: edge correlation as a fraction of the set's usual one; below it the two images
            show different things.
        coarse_swap_loss: largest loss of correlation on the coarse maps at which a swap is still compared
            closely; the coarse maps are off by less.
        swap_gain: gain of edge correlation by a swap of targets. Sound sets with shifts of 2 px, rotations of
            1 degree and 10 % noise reach 0.005.
        certain_swap_gain: the same, for an error instead of a warning; six times what sound sets reach.
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
        copy_details: lowest correlation of details of two copies. Different patients reached 0.57 at most, on
            two kinds of MRI; resized, noisy copies mostly reach 0.75.
        copy_details_max: highest limit for that correlation: many copies in a set must not raise the limit so
            far that it hides them.
        copy_std: standard deviations of the correlation of details above the usual one.
    """

    border_tissue: float = 0.01
    drift: float = 0.25
    drift_patients: int = 5
    outlier_std: float = 6.0
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
    copy_details: float = 0.65
    copy_details_max: float = 0.85
    copy_std: float = 3.5


THRESHOLDS = Thresholds()


def robust_std(values: np.ndarray) -> np.ndarray:
    """Robust standard deviation along the first axis: 1.4826 × median absolute deviation."""
    return 1.4826 * np.median(np.abs(values - np.median(values, 0)), 0)
