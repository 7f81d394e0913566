"""Features of images on disk: latents and height errors of an autoencoder, and features of Lite0."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.progress import track
from pti.data import resize, tif
from pti.inference.devices import batched, run_batches
from pti.metrics.bone_agreement import find_bone
from pti.modules.protocols import Autoencoder
from pti.networks.perceptual import Lite0Perceptual

Source = Path | Callable[[], np.ndarray]
"""A raw image (H, W): its file, or a function that returns it."""

LITE0_SIZE = 128  # pixels: enough for its features, in a quarter of the time that 256 takes
_IO_THREADS = 4


@dataclass(frozen=True)
class EncodedImages:
    """The latents of N images.

    Attributes:
        latents: (N, C, h, w) float32, means of the posteriors.
        height_change_mm: (N,) bone height after encoding and decoding minus before; NaN without bone.
    """

    latents: np.ndarray
    height_change_mm: np.ndarray

    def pooled(self, size: int = 4) -> np.ndarray:
        """Average the latents over a grid of size × size parts: (N, C · size · size) float64."""
        parts = nn.functional.adaptive_avg_pool2d(torch.from_numpy(self.latents), size)
        return parts.flatten(1).double().numpy()

    def flat(self) -> np.ndarray:
        """Return the latents as (N, C · h · w)."""
        return self.latents.reshape(len(self.latents), -1)


@dataclass(frozen=True)
class FeatureExtractor:
    """Encode images with a checkpoint's autoencoder, and measure what decoding changes.

    Attributes:
        autoencoder: The autoencoder.
        image_size: Edge of the square that it works on, pixels.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        batch_size: Images at a time.
        device: The device to compute on.
    """

    autoencoder: Autoencoder
    image_size: int
    pixel_mm: float
    batch_size: int
    device: torch.device

    def __call__(self, images: Sequence[Source], title: str, heights: bool = False) -> EncodedImages:
        """Encode images.

        Args:
            images: Raw images.
            title: Description of the images, for the progress bar.
            heights: Also decode the latents, and measure the change of the bone height.
        """
        batches = batched(images, self.batch_size)
        work = self._encode_and_measure if heights else self._encode_only
        encoded = run_batches(lambda: self.autoencoder, work, batches, [self.device])
        latents, changes = zip(*track(encoded, f"Encoding {title}", total=len(batches)), strict=True)
        return EncodedImages(np.concatenate(latents), np.concatenate(changes))

    def _encode_only(
        self, autoencoder: Autoencoder, batch: Sequence[Source]
    ) -> tuple[np.ndarray, np.ndarray]:
        raw = _stack([read(source) for source in batch], self.image_size).to(self.device)
        return autoencoder.encode(raw).mean.float().cpu().numpy(), np.full(len(batch), np.nan)

    def _encode_and_measure(
        self, autoencoder: Autoencoder, batch: Sequence[Source]
    ) -> tuple[np.ndarray, np.ndarray]:
        images = [read(source) for source in batch]
        raw = _stack(images, self.image_size).to(self.device)
        latents = autoencoder.encode(raw).mean
        decoded = autoencoder.decode(latents, autoencoder.normalization.statistics(raw))
        changes = []
        for image, square in zip(images, decoded.float().cpu().numpy()[:, 0], strict=True):
            pixel_mm = image.pixel_mm or self.pixel_mm
            height, width = image.pixels.shape
            after = resize.restore_size(square, (height, width))
            heights = [find_bone(pixels, pixel_mm).lengths["height"] for pixels in (image.pixels, after)]
            changes.append(heights[1] - heights[0])
        return latents.float().cpu().numpy(), np.array(changes)


def lite0_features(
    images: Sequence[Source], data_range: float, title: str, device: torch.device, batch_size: int = 16
) -> np.ndarray:
    """Return (N, 320) float64: the last features of EfficientNet-Lite0 (ImageNet), averaged over the image.

    Args:
        images: Raw images.
        data_range: Raw units; 0 is shown to the network as black, this value as white.
        title: Description of the images, for the progress bar.
        device: The device to compute on.
        batch_size: Images at a time.

    Raises:
        UsageError: The package with the weights is missing.
    """
    network = Lite0Perceptual()

    def work(module: Lite0Perceptual, batch: Sequence[Source]) -> np.ndarray:
        raw = _stack([read(source) for source in batch], LITE0_SIZE).to(device)
        last = module.features((2 * raw / data_range - 1).clamp(-1, 1))[-1]
        return last.mean(dim=(2, 3)).double().cpu().numpy()

    batches = batched(images, batch_size)
    features = run_batches(lambda: network, work, batches, [device])
    return np.concatenate(list(track(features, f"Features of {title}", total=len(batches))))


def thumbnails(files: Sequence[Path], size: int = 64) -> np.ndarray:
    """Return small raw images (N, size · size) float32, in which noise and shifts by a pixel hardly count."""
    with ThreadPoolExecutor(_IO_THREADS) as threads:
        images = threads.map(lambda file: resize.pad_and_resize(tif.read(file).pixels, size).ravel(), files)
        return np.stack(list(track(images, "Reading", total=len(files))))


def read(source: Source) -> tif.TifImage:
    """Read an image, or call the function that returns it."""
    return tif.read(source) if isinstance(source, Path) else tif.TifImage(source(), None, "float32")


def _stack(images: Sequence[tif.TifImage], size: int) -> Tensor:
    """Return (B, 1, size, size) float32."""
    return torch.from_numpy(
        np.stack([resize.pad_and_resize(image.pixels, size) for image in images])[:, None]
    )
