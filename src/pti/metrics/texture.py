"""Texture inside the bone: amount of fine structure, and its correlation with the true one."""

import numpy as np
from scipy import ndimage

DEPTH_MM = 2.5
"""Depth inside the bone at which its core begins: below the cortex, whose edges aren't texture."""

SCALE_MM = 0.6
"""Standard deviation of the Gaussian that gives the coarse structure: trabeculae are 0.7 to 1 mm apart."""

TEXTURE = ("texture_power_ratio", "texture_correlation")


class Texture:
    """The fine structure of a true image, as the reference for others.

    The fine structure of an image I with bone mask M is I − (G∗MI)/(G∗M) with a Gaussian G of
    :data:`SCALE_MM`, on the core of the bone: the pixels more than :data:`DEPTH_MM` inside.

    Args:
        raw: (H, W), any unit.
        mask: (H, W) bool, its bone.
        pixel_mm: Edge of a pixel, mm.
    """

    def __init__(self, raw: np.ndarray, mask: np.ndarray, pixel_mm: float) -> None:
        self._box = tuple(_extent(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        self._mask = mask[self._box].astype(np.float32)
        # Across a whole image the Gaussian is flat already: a wider one only costs memory.
        self._sigma = min(SCALE_MM / pixel_mm, max(*self._mask.shape, 1))
        padded = np.pad(self._mask, 1)  # the border of the image is an edge of the bone
        depth = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
        self._core = depth * pixel_mm > DEPTH_MM
        self._weight = self._coarse(self._mask)
        self._true = self._fine(raw)

    def compare(self, raw: np.ndarray) -> dict[str, float]:
        """Compare another image (H, W) of the same place and unit; return :data:`TEXTURE`.

        Returns:
            ``texture_power_ratio``, 0 or more: mean square of its fine structure divided by the true one's;
            below 1 blurred, above 1 noisy. ``texture_correlation``, in [-1, 1]: Pearson correlation of the
            two. NaN if the bone has no core, or no texture in it.
        """
        fine = self._fine(raw)
        power, true_power = (float((values**2).sum()) for values in (fine, self._true))
        if true_power == 0:
            return dict.fromkeys(TEXTURE, np.nan)
        common = float((fine * self._true).sum())
        correlation = common / float(np.sqrt(power * true_power)) if power > 0 else 0.0
        return dict(zip(TEXTURE, (power / true_power, correlation), strict=True))

    def _fine(self, raw: np.ndarray) -> np.ndarray:
        """Fine structure on the core, mean 0, (n,)."""
        image = raw[self._box].astype(np.float32) * self._mask
        fine = (image - self._coarse(image) / np.maximum(self._weight, 1e-6))[self._core]
        return fine - fine.mean() if fine.size else fine

    def _coarse(self, image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, self._sigma, mode="constant", truncate=3.0)


def _extent(filled: np.ndarray) -> slice:
    """Range from the first to the last True."""
    indices = np.flatnonzero(filled)
    return slice(indices[0], indices[-1] + 1) if indices.size else slice(0)
