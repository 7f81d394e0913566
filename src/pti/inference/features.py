"""What trained networks see in images on disk: latents and losses of an autoencoder, features of Lite0."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.progress import track
from pti.data import resize, tif
from pti.inference.devices import run_batches
from pti.metrics.bone_agreement import find_bone
from pti.networks.perceptual import Lite0Perceptual

Source = Path | Callable[[], np.ndarray]
"""A raw image (H, W): its file, or what makes it."""

LITE0_SIZE = 128  # pixels: enough for its features, a quarter of the time of 256
_READERS = 4


@dataclass(frozen=True)
class EncodedImages:
    """What an autoencoder makes of N images.

    Attributes:
        latents: (N, C, h, w) float32, means of the posteriors.
        height_change_mm: (N,) height of the bone after encoding and decoding minus before; NaN without bone.
    """

    latents: np.ndarray
    height_change_mm: np.ndarray

    def pooled(self, side: int = 4) -> np.ndarray:
        """(N, C · side · side): means over parts of the latents, as features of the images."""
        parts = nn.functional.adaptive_avg_pool2d(torch.from_numpy(self.latents), side)
        return parts.flatten(1).double().numpy()

    def flat(self) -> np.ndarray:
        """(N, C · h · w)."""
        return self.latents.reshape(len(self.latents), -1)


@dataclass(frozen=True)
class FeatureExtractor:
    """Encodes and decodes images as a checkpoint does.

    Attributes:
        autoencoder: with ``encode`` (raw -> posterior), ``decode`` (latents, statistics -> raw) and
            ``normalization``.
        image_size: side of the square that it sees, pixels.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        batch_size: images at a time.
        device: where it works.
    """

    autoencoder: nn.Module
    image_size: int
    pixel_mm: float
    batch_size: int
    device: torch.device

    def __call__(self, images: Sequence[Source], what: str, heights: bool = False) -> EncodedImages:
        """FeatureExtractor images.

        Args:
            images: raw ones.
            what: they are, for the progress bar.
            heights: whether to decode and measure as well.
        """
        starts = range(0, len(images), self.batch_size)
        batches = [images[start : start + self.batch_size] for start in starts]
        work = self._with_heights if heights else self._latents_only
        found = run_batches(lambda: self.autoencoder, work, batches, [self.device])
        latents, changes = zip(*track(found, f"Encoding {what}", total=len(batches)), strict=True)
        return EncodedImages(np.concatenate(latents), np.concatenate(changes))

    def _latents_only(self, autoencoder: nn.Module, batch: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        raw = _stacked([_read(source).pixels for source in batch], self.image_size).to(self.device)
        mean: Tensor = autoencoder.encode(raw).mean  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        return mean.float().cpu().numpy(), np.full(len(batch), np.nan)

    def _with_heights(self, autoencoder: nn.Module, batch: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
        images = [_read(source) for source in batch]
        raw = _stacked([image.pixels for image in images], self.image_size).to(self.device)
        statistics = autoencoder.normalization.statistics(raw)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        latents: Tensor = autoencoder.encode(raw).mean  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        decoded = autoencoder.decode(latents, statistics).float().cpu().numpy()[:, 0]  # pyright: ignore[reportCallIssue]
        changes = []
        for image, square in zip(images, decoded, strict=True):
            edge = image.pixel_mm or self.pixel_mm
            after = resize.restore_size(square, image.pixels.shape)  # pyright: ignore[reportArgumentType]
            before, now = (find_bone(pixels, edge).lengths["height"] for pixels in (image.pixels, after))
            changes.append(now - before)
        return latents.float().cpu().numpy(), np.array(changes)


def lite0_features(
    images: Sequence[Source], data_range: float, what: str, device: torch.device, batch_size: int = 16
) -> np.ndarray:
    """(N, 320) float64: means over the image of EfficientNet-Lite0's last features (ImageNet).

    Args:
        images: raw ones.
        data_range: raw units; 0 to this becomes black to white.
        what: they are, for the progress bar.
        device: where to compute.
        batch_size: images at a time.

    Raises:
        UsageError: the package with the weights is missing.
    """
    ruler = Lite0Perceptual()

    def work(module: nn.Module, batch: Sequence[Source]) -> np.ndarray:
        assert isinstance(module, Lite0Perceptual)
        raw = _stacked([_read(source).pixels for source in batch], LITE0_SIZE).to(device)
        last = module.features((2 * raw / data_range - 1).clamp(-1, 1))[-1]
        return last.mean(dim=(2, 3)).double().cpu().numpy()

    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    found = run_batches(lambda: ruler, work, batches, [device])
    return np.concatenate(list(track(found, f"Features of {what}", total=len(batches))))


def thumbnails(files: Sequence[Path], size: int = 64) -> np.ndarray:
    """(N, size · size) float32 raw images, small: noise and shifts by a pixel hardly count between them."""
    with ThreadPoolExecutor(_READERS) as threads:
        found = threads.map(lambda file: resize.pad_and_resize(tif.read(file).pixels, size).ravel(), files)
        return np.stack(list(track(found, "Reading", total=len(files))))


def _read(source: Source) -> tif.TifImage:
    return tif.read(source) if isinstance(source, Path) else tif.TifImage(source(), None, "float32")


def _stacked(images: Sequence[np.ndarray], size: int) -> Tensor:
    """(B, 1, size, size) float32."""
    return torch.from_numpy(np.stack([resize.pad_and_resize(image, size) for image in images])[:, None])
