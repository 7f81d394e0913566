"""Invertible maps between raw images and the normalized images that the networks see.

Raw image: (B, 1, H, W) float32 in the file's units, background exactly 0, tissue any other value.
Image: (B, 1, H, W) float32, about [-1, 1].

Inputs are converted to float32 unless they are float64; autocast has no effect. Statistics are computed in
float64 and stored as float32 buffers, which are part of the checkpoint and keep their type when a module is
cast to half precision.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import DataError
from pti.losses import at_least_float32

MAX_SAMPLES = 2**22
"""Tissue pixels that percentiles are estimated from, at most."""


class Normalization(nn.Module, ABC):
    """An invertible map between raw images and images.

    With ``s = statistics(raw)``, ``denormalize(normalize(raw, s), s)`` equals ``raw`` to float32 precision
    and is exactly 0 where ``raw`` is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_fitted: Tensor
        self.register_buffer("is_fitted", torch.tensor(False))

    @property
    def fitted(self) -> bool:
        """Whether `fit` has run, in this process or before the loaded checkpoint was saved."""
        return bool(self.is_fitted)

    @abstractmethod
    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Measure the statistics that all images share.

        Args:
            images: Raw images (H, W) of the training split.

        Raises:
            DataError: The images contain no tissue, or tissue of a single value.
        """

    @abstractmethod
    def statistics(self, raw: Tensor) -> Tensor:
        """Return the (B, K) numbers that `normalize` and `denormalize` need for each image."""

    @abstractmethod
    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Convert raw images (B, 1, H, W) to images."""

    @abstractmethod
    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Convert images (B, 1, H, W), which may be generated, to raw images, float32 or float64."""

    def _apply(self, fn, recurse=True):
        # Statistics keep their type on any device: half precision would round a bound of 1003 to 1000.
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if (after := getattr(self, name)).dtype != buffer.dtype:
                setattr(self, name, buffer.to(after.device))
        return self


class RangeNormalization(Normalization):
    """Map background to -1 and most of the training tissue to [-1 + gap, 1].

    The map is linear between ``low`` and ``high`` (percentiles of the tissue of all training images). Above 1
    it continues linearly, or with ``bright_limit`` as 1 + log(1 + distance). Below ``low`` it bends, with a
    continuous slope, into (-1 + gap/2, -1 + gap). The lower half of the gap therefore contains no tissue, and
    a decoder's output is background exactly where it is below -1 + gap/2.

    If all tissue is positive, the gap is widened, up to 1, until the line meets -1 at raw value 0. A decoder
    blurs the bone's rim, and half of the bone's value then lies half-way down the rim in images as in raw
    units. With a narrower gap it would lie further out, and every reconstructed bone would be too large.

    Metal would take the whole range, and bone would hardly differ from background. With ``bright_limit``,
    ``high`` is therefore at most that many times the 90th percentile, counted from 0, or from ``low`` if
    there is negative tissue. On 24 random styles of the phantom and on MRI, the 99.5th percentile was at most
    1.7 times the 90th without metal, and at least 2.7 times where metal reached it.

    The bend ends at ``floor``: 0 if all training tissue is positive, otherwise slightly below the darkest
    training tissue. Darker pixels become ``floor``. Without this limit, a decoded pixel between bone and
    background would become an arbitrarily large negative number.

    Args:
        percentiles: Percentiles of the training tissue, in percent; 0 <= low < high <= 100.
        gap: Smallest distance between background and tissue; 0.05 to 0.5.
        bright_limit: Largest ``high`` as a multiple of the 90th percentile, above 1; None = no limit.
    """

    def __init__(
        self,
        percentiles: tuple[float, float] = (0.5, 99.5),
        gap: float = 0.2,
        bright_limit: float | None = None,
    ) -> None:
        super().__init__()
        self.percentiles, self.gap = (float(percentiles[0]), float(percentiles[1])), float(gap)
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100 or not 0 < self.gap < 1:
            expected = "0 <= low < high <= 100 and 0 < gap < 1"
            raise ValueError(f"percentiles={percentiles} and gap={gap}: expected {expected}.")
        if bright_limit is not None and not bright_limit > 1:
            raise ValueError(f"bright_limit={bright_limit}: expected a number above 1, or null.")
        self.bright_limit = bright_limit
        self.bounds: Tensor
        self.register_buffer("bounds", torch.tensor([0.0, 1.0, 0.0, self.gap]))

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Measure percentiles of at most 4 million evenly sampled tissue pixels; see `Normalization.fit`."""
        samples, minimum = _sample_tissue(images)
        low, high = np.percentile(samples, self.percentiles) if len(samples) else (0.0, 0.0)
        if self.bright_limit is not None and len(samples):
            zero = 0.0 if minimum > 0 else low
            high = min(high, zero + self.bright_limit * (np.percentile(samples, 90) - zero))
        if not high > low:
            content = f"the single value {low:g}" if len(samples) else "no pixel other than 0"
            fix = "Run pti check."
            raise DataError(f"The tissue of the training images contains {content}: nothing to learn. {fix}")
        floor = 0.0 if minimum > 0 else minimum - 0.05 * (high - low)
        gap = max(self.gap, min(1.0, 2 * low / high)) if minimum > 0 else self.gap
        self.bounds.copy_(torch.tensor([low, high, floor, gap]))
        self.is_fitted.fill_(True)

    def statistics(self, raw: Tensor) -> Tensor:
        """Return low, high and floor in raw units and the gap, (B, 4), equal for all images."""
        # Not len(raw), which makes the batch of an exported graph static.
        return self.bounds.to(raw.device).expand(raw.shape[0], 4)

    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Convert raw images (B, 1, H, W) to images: -1, or above -1 + gap/2."""
        low, unit, reach, bend, gap = self._scale(statistics, raw)
        level = (at_least_float32(raw) - low) * unit
        if self.bright_limit is not None:
            above = (level - (2 - gap)).clamp(min=0)
            level = level - above + above.log1p()
        below = (-level).clamp(min=0).minimum(reach)
        image = level.clamp(min=0) + (gap - 1) - below / (1 + bend * below)
        # The end of the bend may be rounded to just below the threshold.
        return image.maximum(_threshold(gap)).masked_fill(raw == 0, -1.0)

    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Convert images (B, 1, H, W) to raw images, exactly 0 below -1 + gap/2."""
        low, unit, reach, bend, gap = self._scale(statistics, image)
        level = at_least_float32(image) - (gap - 1)
        if self.bright_limit is not None:
            above = (level - (2 - gap)).clamp(min=0)
            level = level - above + above.expm1()
        bent = (-level).clamp(min=0)
        below = (bent / (1 - bend * bent).clamp(min=1e-12)).minimum(reach)
        raw = _never_zero((level.clamp(min=0) - below) / unit + low)
        return raw.masked_fill(image < _threshold(gap), 0.0)

    @staticmethod
    def _scale(statistics: Tensor, like: Tensor) -> tuple[Tensor, ...]:
        """Return low, image units per raw unit, reach, bend and gap.

        Below low, at a distance t up to reach (in image units), the map is y = t / (1 + bend t). Its slope is
        1 at t = 0, and it ends at t = reach with y = gap/2, or less if the line itself ends before.
        """
        low, high, floor, gap = _columns(statistics, like)
        unit = (2 - gap) / (high - low)
        reach = ((low - floor) * unit).clamp(min=1e-12)
        return low, unit, reach, (2 / gap - 1 / reach).clamp(min=0), gap


class MaskedZScore(Normalization):
    """Standardize each image by the mean and standard deviation of its tissue; background stays exactly 0.

    This common recipe puts the background at the mean of the tissue, so that a decoder's output can't
    separate the two: only a value of exactly 0 becomes background again. `RangeNormalization` avoids this.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_fitted.fill_(True)

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Do nothing: images share no statistics."""

    def statistics(self, raw: Tensor) -> Tensor:
        """Return mean and standard deviation of the tissue in raw units, (B, 2); 0 and 1 without tissue."""
        wide = raw.float() if raw.device.type == "mps" else raw.double()  # MPS lacks float64
        values, tissue = wide.flatten(1), (raw != 0).flatten(1)
        count = tissue.sum(1).clamp(min=1)
        mean = values.sum(1) / count
        std = ((values - mean[:, None]) * tissue).square().sum(1).div(count).sqrt()
        std = torch.where(std > 1e-6 * mean.abs(), std, 1.0)
        return torch.stack([mean, std], 1).float()

    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Convert raw images (B, 1, H, W) to images: tissue mean 0, standard deviation 1; background 0."""
        mean, std = _columns(statistics, raw)
        return _never_zero((at_least_float32(raw) - mean) / std).masked_fill(raw == 0, 0.0)

    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Convert images (B, 1, H, W) to raw images; only exact zeros are background."""
        mean, std = _columns(statistics, image)
        return _never_zero(at_least_float32(image) * std + mean).masked_fill(image == 0, 0.0)


def _sample_tissue(images: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return every n-th tissue pixel as float64, and the exact minimum.

    n starts at 1 and doubles whenever there are more than :data:`MAX_SAMPLES`. Memory therefore stays below
    64 MB for any number of images, each image is weighted by its tissue, and small sets are measured exactly.
    """
    kept = [np.zeros(0, np.float32)]
    step, held, minimum = 1, 0, np.inf
    for image in images:
        tissue = image[image != 0]
        minimum = min(minimum, float(tissue.min(initial=np.inf)))
        kept.append(tissue[::step])
        held += len(kept[-1])
        while held > MAX_SAMPLES:
            kept = [np.concatenate(kept)[::2]]
            step, held = step * 2, len(kept[0])
    return np.concatenate(kept).astype(np.float64), minimum


def _columns(statistics: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """Return the columns of (B, K) statistics, each (B, 1, 1, 1), in the computing type of ``like``."""
    columns = statistics.to(like.device, at_least_float32(like[:0]).dtype).unbind(1)
    return tuple(column[:, None, None, None] for column in columns)


def _threshold(gap: Tensor) -> Tensor:
    """Return the float32 just above -1 + gap/2."""
    edge = (gap / 2 - 1).float()
    return torch.nextafter(edge, torch.ones_like(edge)).to(gap.dtype)


def _never_zero(tissue: Tensor) -> Tensor:
    """Replace exact zeros by the smallest normal number: 0 means background."""
    return torch.where(tissue == 0, torch.finfo(tissue.dtype).tiny, tissue)
