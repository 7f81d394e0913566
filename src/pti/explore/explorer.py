"""What one asks of a latent space point by point: reconstructions, walks along a line, distances, samples."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.randomness import sample_generator
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.latent_study import distances
from pti.latent_study.latents import Latents, pair_of
from pti.metrics.morphometry import bone_mask, measure


@dataclass(frozen=True)
class Explorer:
    """Images of a study, by their index, and the module that looks at them; safe to use from several threads.

    Attributes:
        module: the checkpoint's; for samples it has ``translate`` and ``deterministic``.
        first_stage: has ``encode``, ``decode`` and ``normalization``; in evaluation mode, like the module.
        latents: of the images.
        images: in the latents' order; no other file is ever opened.
        image_size: side of the square that the network sees, pixels.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        seed: of samples.
    """

    module: nn.Module
    first_stage: nn.Module
    latents: Latents
    images: Sequence[InputImage]
    image_size: int
    pixel_mm: float
    seed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def original(self, index: int) -> np.ndarray:
        """The raw image (H, W)."""
        return tif.read(self.images[index].path).pixels

    def height_mm(self, index: int, raw: np.ndarray) -> float:
        """Height of the bone in an image of the size and resolution of image ``index``; NaN without bone."""
        pixel_mm = tif.inspect(self.images[index].path).pixel_mm or self.pixel_mm
        return measure(bone_mask(raw), pixel_mm).height * pixel_mm

    def reconstruction(self, index: int) -> np.ndarray:
        """The raw image by way of its latents, (H, W)."""
        original = self.original(index)
        mean = torch.from_numpy(self.latents.mean[index][None])
        return self._decode(mean, self._statistics(original), original.shape)[0]

    def distance(self, first: int, second: int) -> float:
        """Of two images' latents; see `pti.latent_study.distances`."""
        return distances.distance(self.latents.mean[first], self.latents.mean[second])

    def walk(self, first: int, second: int, steps: int) -> list[np.ndarray]:
        """Decoded raw images (H, W) along the line from one image's latents to another's, both included.

        Shape and grey scale are those of the first image, gradually the second's where images have a scale of
        their own.
        """
        ends = [self.original(index) for index in (first, second)]
        from_scale, to_scale = (self._statistics(raw) for raw in ends)
        place = torch.linspace(0, 1, steps, device=from_scale.device)[:, None]
        start, end = (
            torch.from_numpy(self.latents.mean[[index]]).to(place.device) for index in (first, second)
        )
        latents = torch.lerp(start, end, place[..., None, None])
        return self._decode(latents, torch.lerp(from_scale, to_scale, place), ends[0].shape)

    def samples(self, index: int, count: int) -> list[np.ndarray]:
        """Raw edente images (H, W) that the module makes of image ``index``; one where it has but one answer.

        The same ones as ``python -m pti.translate`` with this seed writes.
        """
        original = self.original(index)
        count = 1 if getattr(self.module, "deterministic", False) else count
        raw = self._square(original).expand(count, -1, -1, -1)
        name = pair_of(self.images[index].name)
        generators = [sample_generator(self.seed, name, sample) for sample in range(count)]
        with self._lock, torch.inference_mode():
            found = self.module.translate(raw, generators)  # pyright: ignore[reportCallIssue]
        return [resize.restore_size(square, original.shape) for square in found.float().cpu().numpy()[:, 0]]  # pyright: ignore

    @property
    def has_samples(self) -> bool:
        """Whether the module translates."""
        return hasattr(self.module, "translate")

    def _square(self, raw: np.ndarray) -> Tensor:
        """(1, 1, S, S) on the module's device."""
        device = next(self.first_stage.parameters()).device
        return torch.from_numpy(resize.pad_and_resize(raw, self.image_size))[None, None].to(device)

    def _statistics(self, raw: np.ndarray) -> Tensor:
        """(1, K), what sets the grey scale of a decoded image."""
        normalization = self.first_stage.get_submodule("normalization")
        return normalization.statistics(self._square(raw))  # pyright: ignore[reportCallIssue]

    def _decode(self, latents: Tensor, statistics: Tensor, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Latents (B, C, h, w) -> raw images (H, W)."""
        with self._lock, torch.inference_mode():
            found = self.first_stage.decode(latents.to(statistics.device), statistics)  # pyright: ignore[reportCallIssue]
        squares = found.float().cpu().numpy()[:, 0]
        return [resize.restore_size(square, (shape[0], shape[1])) for square in squares]
