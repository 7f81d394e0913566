"""Fine structure inside the bone: how much of it there is, and whether it is the true one."""

import numpy as np
from scipy import ndimage

DEPTH_MM = 2.5
"""How far inside the bone its core begins: past the cortex, whose edges aren't texture."""

SCALE_MM = 0.6
"""Standard deviation of the Gaussian whose result counts as coarse: trabeculae stand 0.7 to 1 mm apart."""

TEXTURE = ("texture_power_ratio", "texture_correlation")


class Texture:
    """The fine structure of a true image, with which others are compared.

    Of an image I and the bone's mask M it is I − (G∗MI)/(G∗M) with a Gaussian G of :data:`SCALE_MM`, on the
    core of the bone: what lies more than :data:`DEPTH_MM` inside.

    Args:
        raw: (H, W), any unit.
        mask: (H, W) bool, its bone.
        pixel_mm: edge of a pixel, mm.
    """

    def __init__(self, raw: np.ndarray, mask: np.ndarray, pixel_mm: float) -> None:
        self._box = tuple(_extent(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        self._mask = mask[self._box].astype(np.float32)
        self._sigma = SCALE_MM / pixel_mm
        padded = np.pad(self._mask, 1)  # the border of the image is an edge of the bone
        depth = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
        self._core = depth * pixel_mm > DEPTH_MM
        self._weight = self._coarse(self._mask)
        self._true = self._fine(raw)

    def compare(self, raw: np.ndarray) -> dict[str, float]:
        """:data:`TEXTURE` of another image (H, W) of the same place and unit.

        Returns:
            ``texture_power_ratio``: mean square of its fine structure over the true one's: below 1 blurred,
            above 1 noisy. ``texture_correlation``: Pearson's, of both: 1 when it is the true one. NaN where
            the bone has no core, or no texture there.
        """
        found = self._fine(raw)
        power, true_power = (float((fine**2).sum()) for fine in (found, self._true))
        if true_power == 0:
            return dict.fromkeys(TEXTURE, np.nan)
        common = float((found * self._true).sum())
        correlation = common / float(np.sqrt(power * true_power)) if power > 0 else 0.0
        return dict(zip(TEXTURE, (power / true_power, correlation), strict=True))

    def _fine(self, raw: np.ndarray) -> np.ndarray:
        """(n,) on the core, mean 0."""
        image = raw[self._box].astype(np.float32) * self._mask
        fine = (image - self._coarse(image) / np.maximum(self._weight, 1e-6))[self._core]
        return fine - fine.mean() if fine.size else fine

    def _coarse(self, image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, self._sigma, mode="constant", truncate=3.0)


def _extent(filled: np.ndarray) -> slice:
    """From the first to the last that is."""
    found = np.flatnonzero(filled)
    return slice(found[0], found[-1] + 1) if found.size else slice(0)
