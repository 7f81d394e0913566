"""Raw units to what the networks see, and back. Statistics are buffers: they travel in the checkpoint.

raw image: (B, 1, H, W) float32 in the file's units, background exactly 0, tissue anything else.
image: (B, 1, H, W) float32, about [-1, 1].

What comes in is taken as float32, or float64 if it is that; autocast changes nothing. Statistics are computed
in float64, kept as float32, and stay that when a module is cast to half precision.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import DataError

_MAX_SAMPLES = 2**22


class Normalization(nn.Module, ABC):
    """An invertible map between raw images and images.

    ``denormalize(normalize(raw, s), s)`` equals ``raw`` to float32 precision, with ``s = statistics(raw)``,
    and is exactly 0 where ``raw`` is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_fitted: Tensor
        self.register_buffer("is_fitted", torch.tensor(False))

    @property
    def fitted(self) -> bool:
        """Whether `fit` has run, here or in the run whose checkpoint was loaded."""
        return bool(self.is_fitted)

    @abstractmethod
    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Measure what is shared by all images.

        Args:
            images: raw images (H, W) of the training side.

        Raises:
            DataError: they hold no tissue, or tissue of one single value.
        """

    @abstractmethod
    def statistics(self, raw: Tensor) -> Tensor:
        """(B, K) numbers that `normalize` and `denormalize` need for each image."""

    @abstractmethod
    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Raw images (B, 1, H, W) to images."""

    @abstractmethod
    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Images (B, 1, H, W), also generated ones, to raw images, float32 or wider."""

    def _apply(self, fn, recurse=True):
        # Half precision would round a bound of 1003 to 1000: statistics move between devices and keep their
        # type.
        kept = {name: (buffer, buffer.dtype) for name, buffer in self.named_buffers(recurse=False)}
        super()._apply(fn, recurse)
        for name, (before, dtype) in kept.items():
            after = getattr(self, name)
            if after.dtype != dtype:
                setattr(self, name, before.to(after.device))
        return self


class RangeNormalization(Normalization):
    """Background to -1, the bulk of the training tissue to [-1 + gap, 1].

    Between ``low`` and ``high`` (percentiles over the tissue of all training images) the map is linear, and
    it goes on linearly above 1. Below ``low`` it bends, with a continuous slope, into (-1 + gap/2, -1 +
    gap). So the gap's lower half holds no tissue, and a decoder's output is background exactly when it lies
    under -1 + gap/2.

    Where all tissue is positive, the gap is widened, up to 1, until the line meets -1 at raw 0. A decoder
    blurs the bone's rim; half of the bone's value is then half-way down the rim in images as in raw units.
    With a narrower gap it would lie further out, and every reconstructed bone would be too large.

    The bend ends at ``floor``: 0 if all training tissue is positive, otherwise just below the darkest of it.
    Darker pixels become ``floor``. Without that end, a decoded pixel at the bone's rim, on its way to the
    background, would turn into an arbitrarily large negative number.

    Args:
        percentiles: of the training tissue, in percent; 0 <= low < high <= 100.
        gap: smallest distance between background and tissue; 0.05 to 0.5.
    """

    def __init__(self, percentiles: tuple[float, float] = (0.5, 99.5), gap: float = 0.2) -> None:
        super().__init__()
        self.percentiles, self.gap = (float(percentiles[0]), float(percentiles[1])), float(gap)
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100 or not 0 < self.gap < 1:
            raise ValueError(
                f"percentiles={percentiles} and gap={gap}: expected 0 <= low < high <= 100, 0 < gap < 1"
            )
        self.bounds: Tensor
        self.register_buffer("bounds", torch.tensor([0.0, 1.0, 0.0, self.gap]))

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """See `Normalization.fit`; percentiles of every n-th tissue pixel, at most 4 million in all."""
        samples, minimum = _sample_tissue(images)
        low, high = np.percentile(samples, self.percentiles) if len(samples) else (0.0, 0.0)
        if not high > low:
            found = f"one single value, {low:g}" if len(samples) else "no pixel other than 0"
            raise DataError(
                f"The tissue of the training images holds {found}: nothing to learn. Run pti check."
            )
        floor = 0.0 if minimum > 0 else minimum - 0.05 * (high - low)
        gap = max(self.gap, min(1.0, 2 * low / high)) if minimum > 0 else self.gap
        self.bounds.copy_(torch.tensor([low, high, floor, gap]))
        self.is_fitted.fill_(True)

    def statistics(self, raw: Tensor) -> Tensor:
        """(B, 4): low, high and floor, in raw units, and the gap; the same for every image."""
        return self.bounds.to(raw.device).expand(len(raw), 4)

    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Raw images (B, 1, H, W) to images: -1, or above -1 + gap/2."""
        low, unit, reach, bend, gap = self._scale(statistics, raw)
        level = (_at_least_float(raw) - low) * unit
        below = (-level).clamp(min=0).minimum(reach)
        image = level.clamp(min=0) + (gap - 1) - below / (1 + bend * below)
        # The bend's end may round below the threshold by its last bit.
        return image.maximum(_threshold(gap)).masked_fill(raw == 0, -1.0)

    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Images (B, 1, H, W) to raw images; exactly 0 below -1 + gap/2."""
        low, unit, reach, bend, gap = self._scale(statistics, image)
        level = _at_least_float(image) - (gap - 1)
        bent = (-level).clamp(min=0)
        below = (bent / (1 - bend * bent).clamp(min=1e-12)).minimum(reach)
        raw = _never_zero((level.clamp(min=0) - below) / unit + low)
        return raw.masked_fill(image < _threshold(gap), 0.0)

    @staticmethod
    def _scale(statistics: Tensor, like: Tensor) -> tuple[Tensor, ...]:
        """low, image units for a raw unit, the bend (below low, y = t / (1 + bend t) for t up to reach), gap.

        The bend's slope is 1 at t = 0, and t = reach ends at gap/2, or before it where the line itself does.
        """
        low, high, floor, gap = _columns(statistics, like)
        unit = (2 - gap) / (high - low)
        reach = ((low - floor) * unit).clamp(min=1e-12)
        return low, unit, reach, (2 / gap - 1 / reach).clamp(min=0), gap


class MaskedZScore(Normalization):
    """Each image by the mean and standard deviation of its tissue; background to exactly 0.

    The common recipe for such images. It puts the background at the tissue's mean, so that a decoder's output
    doesn't tell the two apart: only what is exactly 0 becomes background again. `RangeNormalization` does
    better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_fitted.fill_(True)

    def fit(self, images: Iterable[np.ndarray]) -> None:
        """Nothing is shared between images."""

    def statistics(self, raw: Tensor) -> Tensor:
        """(B, 2): mean and standard deviation of the tissue, in raw units; 0 and 1 without tissue."""
        values, tissue = _wide(raw).flatten(1), (raw != 0).flatten(1)
        count = tissue.sum(1).clamp(min=1)
        mean = values.sum(1) / count
        spread = ((values - mean[:, None]) * tissue).square().sum(1).div(count).sqrt()
        std = torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)
        return torch.stack([mean, std], 1).float()

    def normalize(self, raw: Tensor, statistics: Tensor) -> Tensor:
        """Raw images (B, 1, H, W) to images of tissue mean 0, standard deviation 1; background 0."""
        mean, std = _columns(statistics, raw)
        return _never_zero((_at_least_float(raw) - mean) / std).masked_fill(raw == 0, 0.0)

    def denormalize(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Images (B, 1, H, W) to raw images; only what is exactly 0 is background."""
        mean, std = _columns(statistics, image)
        return _never_zero(_at_least_float(image) * std + mean).masked_fill(image == 0, 0.0)


def _sample_tissue(images: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """Every n-th tissue pixel as float64, and the exact minimum.

    n starts at 1 and doubles whenever the samples outgrow their bound, so that memory stays under 64 MB for
    any number of images, each weighs as much as it has tissue, and small sets are measured exactly.
    """
    kept: list[np.ndarray] = []
    step, held, minimum = 1, 0, np.inf
    for image in images:
        tissue = image[image != 0]
        if not len(tissue):
            continue
        minimum = min(minimum, float(tissue.min()))
        kept.append(tissue[::step])
        held += len(kept[-1])
        while held > _MAX_SAMPLES:
            kept = [np.concatenate(kept)[::2]]
            step, held = step * 2, len(kept[0])
    samples = np.concatenate(kept) if kept else np.zeros(0)
    return samples.astype(np.float64), minimum


def _columns(statistics: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """The columns of (B, K) statistics, each as (B, 1, 1, 1), in the type that ``like`` is computed in."""
    columns = statistics.to(like.device, _at_least_float(like[:0]).dtype).unbind(1)
    return tuple(column[:, None, None, None] for column in columns)


def _threshold(gap: Tensor) -> Tensor:
    """The float32 at or just above -1 + gap/2."""
    edge = (gap / 2 - 1).float()
    return torch.nextafter(edge, torch.ones_like(edge)).to(gap.dtype)


def _at_least_float(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()


def _never_zero(tissue: Tensor) -> Tensor:
    """Tissue that falls exactly on 0 becomes the smallest normal number: 0 means background."""
    return torch.where(tissue == 0, torch.finfo(tissue.dtype).tiny, tissue)
