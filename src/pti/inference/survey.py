"""Survey of the images that a command processes, all read once beforehand: faults, tissue range, warnings."""

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pti.common.errors import DataError
from pti.common.progress import track
from pti.data import tif
from pti.data.background import background_value
from pti.data.input_images import InputImage
from pti.data.layouts import abbreviate

MIN_SIZE = 11
"""Shortest edge in pixels: the window of SSIM (`pti.metrics.ssim.WINDOW`, not imported because of torch)."""

SCALE_FACTOR = 2.0
"""Ratio of two tops of tissue from which on they can't have the same unit.

Images of one scanner and sequence differ by some tens of percent, on the phantom by 5 %. The usual mistakes
(8 instead of 12 bits, a scale of 0 to 1) change them by a factor of 8 or more.
"""

_QUANTILES = (0.5, 50, 99.5)  # percent of the tissue's pixels
_MAX_NAMED_FAULTS = 20
_MAX_NAMED_IMAGES = 5
_READERS = 8


@dataclass(frozen=True)
class SurveyedImage:
    """Facts about one image.

    Attributes:
        name: Name of the image.
        low, middle, high: 0.5th, 50th and 99.5th percentile of the tissue, raw units; all NaN without tissue.
        background: Value of the background, NaN for noise; see `pti.data.background`.
        states_pixel_size: Whether the file states the size of its pixels.
    """

    name: str
    low: float = math.nan
    middle: float = math.nan
    high: float = math.nan
    background: float = 0.0
    states_pixel_size: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether every pixel is 0."""
        return math.isnan(self.high)

    @property
    def top(self) -> float:
        """Distance from 0, or darker tissue, to the top of the tissue, raw units."""
        return self.high - min(self.low, 0.0)


@dataclass(frozen=True)
class Survey:
    """Facts about all images of a command."""

    images: Sequence[SurveyedImage]

    @property
    def tissue_range(self) -> tuple[float, float]:
        """The smallest ``low`` and the largest ``high`` of any image, raw units; (0, 1) without tissue."""
        filled = [image for image in self.images if not image.is_empty]
        if not filled:
            return 0.0, 1.0
        return min(image.low for image in filled), max(image.high for image in filled)

    @property
    def empty(self) -> list[str]:
        """Names of the images without tissue."""
        return [image.name for image in self.images if image.is_empty]

    @property
    def usual_top(self) -> float:
        """Median of the images' `SurveyedImage.top`; NaN without tissue."""
        tops = [image.top for image in self.images if not image.is_empty]
        return float(np.median(tops)) if tops else math.nan

    def pixel_size_notes(self, pixel_mm: float, key: str) -> list[str]:
        """Say how many files state no pixel size, and what is assumed for them.

        Args:
            pixel_mm: The assumed edge of a pixel, mm.
            key: Where it comes from.
        """
        silent = [image.name for image in self.images if not image.states_pixel_size]
        if not silent:
            return []
        found = self._counted(silent, f"no pixel size is stated, {key}={pixel_mm:.4g} mm is assumed")
        return [f"{found}. Lengths in mm depend on it"]

    def warnings(self, bounds: tuple[float, float] | None) -> list[str]:
        """Say which images are unlike those that a model was trained on: one warning for each kind.

        Args:
            bounds: Percentiles of the training tissue, raw units, see
                `pti.inference.reconstructions.training_bounds`; None if the model normalises each image by
                its own statistics, so that intensities don't matter.
        """
        unclean = [image for image in self.images if image.background != 0]
        low, high = bounds or (-math.inf, math.inf)
        top = high - min(low, 0.0)
        unlike = [
            image
            for image in self.images
            if bounds and not image.is_empty and image.background == 0
            if not (low <= image.middle <= high and is_same_unit(image.top, top))
        ]
        warnings = []
        if self.empty:
            found = self._counted(self.empty, "every pixel is 0")
            warnings.append(f"{found}. Expected an image with tissue. Export them again, or leave them out.")
        if unclean:
            values = [
                "noise" if math.isnan(image.background) else f"{image.background:g}" for image in unclean
            ]
            found = self._counted([image.name for image in unclean], f"the background is {values[0]}")
            warnings.append(
                f"{found}. Expected exactly 0, because everything else counts as tissue. Set all pixels "
                "outside the tissue to 0."
            )
        if unlike:
            usual = float(np.median([image.top for image in unlike]))
            found = self._counted(
                [image.name for image in unlike], "the intensities are unlike the training's"
            )
            warnings.append(
                f"{found}. Their tissue reaches {usual:.4g} (median), the training's tissue lies between "
                f"{low:.4g} and {high:.4g}; expected its upper end within a factor of {SCALE_FACTOR:g} and "
                "its median in between. Give the images in the unit of the training images."
            )
        return warnings

    def _counted(self, names: Sequence[str], what: str) -> str:
        return f"{len(names)} of {len(self.images)} images, {what}: {abbreviate(names, _MAX_NAMED_IMAGES)}"


def is_same_unit(top: float, expected: float) -> bool:
    """Test whether two tops of tissue differ by less than `SCALE_FACTOR`."""
    return expected / SCALE_FACTOR < top < expected * SCALE_FACTOR


def print_warnings(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, one a line."""
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr, flush=True)


def survey(images: Sequence[InputImage]) -> Survey:
    """Read every image once.

    Raises:
        DataError: Some images can't be used; the message names each with its fault and the fix.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        results = list(track(readers.map(_survey_image, images), "Reading", total=len(images)))
    if faults := [str(result) for result in results if isinstance(result, DataError)]:
        rest = len(faults) - _MAX_NAMED_FAULTS
        lines = faults[:_MAX_NAMED_FAULTS] + ([f"… and {rest} more"] if rest > 0 else [])
        raise DataError(f"{len(faults)} of {len(images)} images can't be used:\n  " + "\n  ".join(lines))
    return Survey([result for result in results if isinstance(result, SurveyedImage)])


def _survey_image(image: InputImage) -> SurveyedImage | DataError:
    try:
        file = tif.read(image.path)
    except DataError as error:
        return error
    pixels, states_pixel_size = file.pixels, file.pixel_mm is not None
    if min(pixels.shape) < MIN_SIZE:
        height, width = pixels.shape
        return DataError(
            f"{image.path}: found {height} × {width} pixels, expected at least {MIN_SIZE} × {MIN_SIZE}. "
            "Remove it, or export the image at its full size."
        )
    tissue = pixels[pixels != 0]
    if not tissue.size:
        return SurveyedImage(image.name, states_pixel_size=states_pixel_size)
    low, middle, high = np.percentile(tissue, _QUANTILES).tolist()
    background = background_value(pixels, high - low)
    return SurveyedImage(image.name, low, middle, high, background, states_pixel_size)
