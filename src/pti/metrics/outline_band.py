"""Band around the mean outline of an image's samples that covers the bone's true outline at a known rate.

m(x) and s(x) are mean and standard deviation over the samples of the signed distance from pixel x to the
sample's outline; the band of factor c is {x : |m(x)| ≤ c·s(x)}. Conformal risk control (Angelopoulos et al.
2022, arXiv 2208.02814, equation 4) chooses c.

Only the new outline counts: the part of a bone's outline that is farther than :data:`NEW_PIXELS` from the
outline of the condition. Elsewhere a model copies the condition's outline, and this longer part would hide
errors of the new crest: fitted on whole outlines of phantoms, 90 % bands covered 75 % of the new outline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pti.metrics.bootstrap import Mean, bootstrap_mean
from pti.metrics.calibration import patient_quantile
from pti.metrics.morphometry import bone_mask

NEW_PIXELS = 1.0
"""Distance from the condition's outline beyond which an outline is new, pixels."""

MIN_SPREAD_PIXELS = 0.5
"""Lower bound of s, pixels: an outline in a mask is known to half a pixel, however alike the samples are."""

BAND = ("band_level", "band_factor", "band_width_mm")
"""Names of the values of an :class:`ImageBand` among the metrics of an image."""


@dataclass(frozen=True)
class OutlineDistribution:
    """Distribution of the bone's outline over the samples of an image.

    Attributes:
        mean: m, (H, W) mm, positive outside the bone.
        spread: s, (H, W) mm, at least :data:`MIN_SPREAD_PIXELS`.
        pixel_mm: Edge of a pixel, mm.
    """

    mean: np.ndarray
    spread: np.ndarray
    pixel_mm: float

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: inside the mean outline."""
        return self.mean < 0

    def excess(self, factor: float) -> np.ndarray:
        """Return |m| − c·s, (H, W) mm: negative inside the band of a factor c."""
        return np.abs(self.mean) - factor * self.spread

    def factors_needed(self, true: np.ndarray, condition: np.ndarray) -> np.ndarray:
        """Return the smallest factor at which the band reaches each point of the true bone's new outline.

        Args:
            true: (H, W) bool, the true bone.
            condition: (H, W) mm, :func:`signed_distance` to the bone of the condition.

        Returns:
            (n,); empty without a new outline: without a true bone, or if it equals the condition's.
        """
        needed = np.abs(at_outline(self.mean, true)) / at_outline(self.spread, true)
        return needed[self._is_new(true, condition)]

    def new_spread(self, condition: np.ndarray) -> float:
        """Average s over the new part of the mean outline, mm; NaN if no part is new.

        Half the width of the band is c·s where m is a distance (|∇m| = 1), so that the mean width of the
        band, its area divided by the length of the outline, is 2c times this value.

        Args:
            condition: As for :meth:`factors_needed`.
        """
        spread = at_outline(self.spread, self.mask)[self._is_new(self.mask, condition)]
        return float(spread.mean()) if spread.size else np.nan

    def _is_new(self, mask: np.ndarray, condition: np.ndarray) -> np.ndarray:
        return np.abs(at_outline(condition, mask)) > NEW_PIXELS * self.pixel_mm


@dataclass(frozen=True)
class MeasuredOutline:
    """What calibration and coverage need to know of one slice.

    Attributes:
        factors: `OutlineDistribution.factors_needed`, (n,).
        spread: `OutlineDistribution.new_spread`, mm.
    """

    factors: np.ndarray
    spread: float


@dataclass(frozen=True)
class BandCoverage:
    """Coverage and width of the bands of one nominal level.

    Attributes:
        level: Nominal level: the fraction of the new true outline that the bands should cover on average.
        factor: The factor c; infinite if too few patients were available to fit it.
        coverage: The covered fraction of each slice's new true outline; None without a finite factor.
        width: Width of the bands along the new part of the mean outline, mm; None likewise.
    """

    level: float
    factor: float
    coverage: Mean | None = None
    width: Mean | None = None


@dataclass(frozen=True)
class ImageBand:
    """The band of one image.

    Attributes:
        outline: Distribution of its outline.
        level: Nominal level.
        factor: The factor c.
        width_mm: Width along the new part of the mean outline; NaN if no part is new.
    """

    outline: OutlineDistribution
    level: float
    factor: float
    width_mm: float

    def as_metrics(self) -> dict[str, float]:
        """Return the values of :data:`BAND`; the width only if it is known."""
        values = dict(zip(BAND, (self.level, self.factor, self.width_mm), strict=True))
        return {name: value for name, value in values.items() if not np.isnan(value)}


def signed_distance(mask: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Compute the distance of each pixel to the outline of a mask, positive outside.

    The outline runs between pixels; the frame of the image isn't an outline. Without an outline, all pixels
    have the diagonal of the image as distance: a sample without bone allows the outline anywhere.

    Args:
        mask: (H, W) bool.
        pixel_mm: Edge of a pixel, mm.

    Returns:
        (H, W) mm.
    """
    diagonal = float(np.hypot(*mask.shape))
    if not mask.any() or mask.all():
        return np.full(mask.shape, diagonal if not mask.any() else -diagonal) * pixel_mm
    outside, inside = (np.asarray(ndimage.distance_transform_edt(part)) for part in (~mask, mask))
    return np.where(mask, 0.5 - inside, outside - 0.5) * pixel_mm


def at_outline(field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Interpolate a field at the outline of a mask, between each pixel inside and its neighbours outside.

    Args:
        field: (H, W).
        mask: (H, W) bool.

    Returns:
        (n,) a value for each edge between two pixels.
    """
    values = []
    for pixels, within in ((field, mask), (field.T, mask.T)):
        edges = within[1:] != within[:-1]
        values.append((pixels[1:][edges] + pixels[:-1][edges]) / 2)
    return np.concatenate(values)


def outline_distribution(samples: Sequence[np.ndarray], pixel_mm: float) -> OutlineDistribution:
    """Compute the distribution of the outline over raw images (H, W), one or more.

    One sample, or samples without differences, give the smallest spread everywhere: a band of constant width.
    """
    distances = np.stack([signed_distance(bone_mask(raw), pixel_mm) for raw in samples])
    spread = np.maximum(distances.std(axis=0), MIN_SPREAD_PIXELS * pixel_mm)
    return OutlineDistribution(distances.mean(axis=0), spread, pixel_mm)


def measure_outline(
    condition: np.ndarray, samples: Sequence[np.ndarray], true: np.ndarray, pixel_mm: float
) -> MeasuredOutline:
    """Compare the outlines of samples with that of the true image; all are raw images (H, W)."""
    outline = outline_distribution(samples, pixel_mm)
    distance = signed_distance(bone_mask(condition), pixel_mm)
    return MeasuredOutline(outline.factors_needed(bone_mask(true), distance), outline.new_spread(distance))


def band_factor(outlines: Sequence[MeasuredOutline], patients: Sequence[str], level: float) -> float:
    """Fit the smallest factor c whose bands cover a fraction ``level`` of a new patient's new outline.

    The loss of a patient is the fraction of the new outline outside the band, averaged over its slices; R(c)
    is its mean over the P patients. The factor is the smallest with P/(P + 1)·R(c) + 1/(P + 1) ≤ 1 − level,
    which bounds the expected loss of a new patient by 1 − level, whatever the model (Angelopoulos et al.
    2022, theorem 1). Slices without a new outline are left out: they have nothing to cover.

    Args:
        outlines: (N,) of patients that are in neither the training nor the test split.
        patients: (N,) the patient of each slice.
        level: Between 0 and 1.

    Returns:
        Infinite with fewer patients than `pti.metrics.calibration.patients_needed`.
    """
    known = [(outline.factors, patient) for outline, patient in zip(outlines, patients, strict=True)]
    known = [(factors, patient) for factors, patient in known if factors.size]
    if not known:
        return float("inf")
    owners = [patient for _, patient in known]
    # Each patient has one unit of weight, each of its slices the same share of it, whatever its length.
    shares = [np.full(factors.size, 1 / (owners.count(patient) * factors.size)) for factors, patient in known]
    factors = np.concatenate([factors for factors, _ in known])
    return patient_quantile(factors, np.concatenate(shares), len(set(owners)), level)


def band_coverage(
    outlines: Sequence[MeasuredOutline], patients: Sequence[str], factors: Mapping[float, float]
) -> list[BandCoverage]:
    """Compute coverage and width of the bands of each level.

    Args:
        outlines: (N,).
        patients: (N,) the patient of each slice.
        factors: Level -> factor c.
    """
    spread = np.array([outline.spread for outline in outlines])
    rows = []
    for level, factor in factors.items():
        if np.isinf(factor):
            rows.append(BandCoverage(level, factor))
            continue
        covered = [
            np.mean(outline.factors <= factor) if outline.factors.size else np.nan for outline in outlines
        ]
        coverage, width = (
            bootstrap_mean(np.asarray(values), patients) for values in (covered, 2 * factor * spread)
        )
        rows.append(BandCoverage(level, factor, coverage, width))
    return rows


def highest_band(factors: Mapping[float, float]) -> tuple[float, float] | None:
    """Return level and factor of the highest level that has a finite factor; None if no level has."""
    finite = {level: factor for level, factor in factors.items() if np.isfinite(factor)}
    return max(finite.items()) if finite else None


def band_settings(factors: Mapping[float, float]) -> dict[str, float]:
    """Return the first two of :data:`BAND` for `highest_band`; empty without one."""
    return dict(zip(BAND, highest_band(factors) or (), strict=False))


def image_band(
    condition: np.ndarray, samples: Sequence[np.ndarray], pixel_mm: float, factors: Mapping[float, float]
) -> ImageBand | None:
    """Compute the band of an image at the highest level that has a finite factor.

    Args:
        condition: (H, W) raw image.
        samples: (H, W) raw images.
        pixel_mm: Edge of a pixel, mm.
        factors: Level -> factor c.

    Returns:
        None if no factor is finite.
    """
    highest = highest_band(factors)
    if highest is None:
        return None
    outline = outline_distribution(samples, pixel_mm)
    spread = outline.new_spread(signed_distance(bone_mask(condition), pixel_mm))
    return ImageBand(outline, *highest, width_mm=2 * highest[1] * spread)
