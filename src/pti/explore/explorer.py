"""Reconstructions, interpolations, distances and samples of single images, as the explorer shows them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.randomness import sample_generator, sample_rank
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.inference.sampling import translate_squares
from pti.latent_study import distances
from pti.latent_study.attributes import move_latents
from pti.latent_study.latents import Latents, pair_of
from pti.metrics.morphometry import bone_mask, measure
from pti.modules.attributes import LatentAttributes, attributes_of
from pti.modules.protocols import Autoencoder, Translator, autoencoder_of


@dataclass(frozen=True)
class Explorer:
    """The images of a study by index, and the module that processes them; safe to use from several threads.

    Attributes:
        module: Autoencoder, or `Translator` with a frozen one, in evaluation mode.
        latents: Latents of the images.
        images: Images in the order of the latents; no other file is ever opened.
        image_size: Side length of the network's square input, pixels.
        pixel_mm: Pixel size in mm for files that don't contain one.
        seed: Seed of the samples.
    """

    module: nn.Module
    latents: Latents
    images: Sequence[InputImage]
    image_size: int
    pixel_mm: float
    seed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder: the module itself, or the frozen one of stage 2."""
        autoencoder = autoencoder_of(self.module)
        assert autoencoder is not None
        return autoencoder

    @property
    def translator(self) -> Translator | None:
        """The module, if it translates dente images."""
        return self.module if isinstance(self.module, Translator) else None

    @property
    def attributes(self) -> LatentAttributes | None:
        """The attributes of the module's latents, if it was trained with some."""
        return attributes_of(self.module)

    def original(self, index: int) -> np.ndarray:
        """Read the raw image (H, W)."""
        return tif.read(self.images[index].path).pixels

    def height_mm(self, index: int, raw: np.ndarray) -> float:
        """Measure the bone height in a raw image with the pixel size of image ``index``; NaN without bone."""
        pixel_mm = tif.inspect(self.images[index].path).pixel_mm or self.pixel_mm
        return measure(bone_mask(raw), pixel_mm).height * pixel_mm

    def reconstruction(self, index: int) -> np.ndarray:
        """Decode the image's latents to a raw image (H, W)."""
        original = self.original(index)
        mean = torch.from_numpy(self.latents.mean[index][None])
        return self._decode(mean, self._statistics(original), original.shape)[0]

    def partner(self, index: int) -> int | None:
        """Return the index of the other image of the pair; None where there is none."""
        pairs = self.latents.pairs()
        rows = pairs[(pairs == index).any(axis=1)]
        return int(rows[0].sum()) - index if len(rows) else None

    def distance(self, first: int, second: int) -> float:
        """Compute the distance between two images' latents; see `pti.latent_study.distances`."""
        return distances.distance(self.latents.mean[first], self.latents.mean[second])

    def walk(self, first: int, second: int, steps: int) -> list[np.ndarray]:
        """Decode raw images (H, W) along the line from one image's latents to another's, ends included.

        Shape and grey scale are those of the first image. With a normalisation of each image by itself, the
        grey scale changes gradually to the second image's.
        """
        ends = [self.original(index) for index in (first, second)]
        from_scale, to_scale = (self._statistics(raw) for raw in ends)
        weight = torch.linspace(0, 1, steps, device=from_scale.device)[:, None]
        start, end = (
            torch.from_numpy(self.latents.mean[[index]]).to(weight.device) for index in (first, second)
        )
        latents = torch.lerp(start, end, weight[..., None, None])
        return self._decode(latents, torch.lerp(from_scale, to_scale, weight), ends[0].shape)

    def attribute_walk(self, index: int, measure: str, steps: np.ndarray) -> list[np.ndarray]:
        """Decode raw images (H, W) from image ``index`` at steps along an attribute; see `move_latents`."""
        assert self.attributes is not None
        original = self.original(index)
        latents = move_latents(self.attributes, self.latents.mean[index], measure, steps)
        statistics = self._statistics(original).expand(len(steps), -1)
        return self._decode(latents, statistics, original.shape)

    def samples(self, index: int, count: int) -> list[np.ndarray]:
        """Translate image ``index`` to raw edente images (H, W); a deterministic module gives one image.

        They equal those that ``python -m pti.translate`` writes with the same seed.
        """
        assert self.translator is not None
        original = self.original(index)
        count = 1 if self.translator.deterministic else count
        square = resize.pad_and_resize(original, self.image_size)
        name = pair_of(self.images[index].name)
        generators = [sample_generator(self.seed, name, sample) for sample in range(count)]
        ranks = [sample_rank(self.seed, name, sample) for sample in range(count)]
        with self._lock, torch.inference_mode():
            samples = translate_squares(self.translator, np.stack([square] * count), generators, ranks)
            return list(self.translator.at_own_size(original, samples))

    def _square(self, raw: np.ndarray) -> Tensor:
        """Return a raw image as (1, 1, S, S) on the module's device."""
        device = next(self.module.parameters()).device
        return torch.from_numpy(resize.pad_and_resize(raw, self.image_size))[None, None].to(device)

    def _statistics(self, raw: np.ndarray) -> Tensor:
        """Return the statistics (1, K) that determine the grey scale of a decoded image."""
        return self.autoencoder.normalization.statistics(self._square(raw))

    def _decode(self, latents: Tensor, statistics: Tensor, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Decode latents (B, C, h, w) to raw images (H, W)."""
        with self._lock, torch.inference_mode():
            decoded = self.autoencoder.decode(latents.to(statistics.device), statistics)
        squares = decoded.float().cpu().numpy()[:, 0]
        return [resize.restore_size(square, (shape[0], shape[1])) for square in squares]
