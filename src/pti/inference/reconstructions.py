"""Reconstruct images with a trained autoencoder, and write raw images, comparisons and metrics."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from pti.common.progress import track
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.data.normalization import Normalization, RangeNormalization
from pti.inference.devices import FileWork, Load, batched, device_of, run_batches
from pti.inference.pictures import draw_reconstruction, save_picture
from pti.metrics.image import reconstruction_metrics
from pti.metrics.morphometry import bone_mask, measure
from pti.modules.protocols import Autoencoder, reconstruct
from pti.runs.manifest import Manifest

RAW, COMPARISONS = "reconstructions", "comparisons"

_IO_THREADS = 4


@dataclass(frozen=True)
class ReconstructedImage:
    """The files written for one image, and its row of ``metrics.csv``."""

    source: InputImage
    files: list[Path]
    metrics: dict[str, Any]


Sources = Sequence[InputImage]
Images = list[tif.TifImage]
Pixels = list[np.ndarray]


@dataclass(frozen=True)
class ReconstructBatch(FileWork[Sources, Images, Pixels, list[ReconstructedImage]]):
    """Reconstruct a batch of images and write the results of each, at the input's own size and resolution.

    Writes below ``output_dir``: ``reconstructions/NAME.tif`` in raw units, ``comparisons/NAME.tif``
    (original | reconstruction | reconstruction - original, side by side, raw units) and
    ``comparisons/NAME.png``, the same as a picture.

    Attributes:
        output_dir: An existing folder.
        image_size: Edge of the square that the network works on, pixels.
        pixel_mm: Edge of a pixel in mm, for files without a resolution.
        data_range: Data range of the set, raw units, for PSNR, SSIM and the colours of differences.
    """

    output_dir: Path
    image_size: int
    pixel_mm: float
    data_range: float

    @override
    def read(self, batch: Sources) -> Images:
        with ThreadPoolExecutor(_IO_THREADS) as threads:
            return list(threads.map(lambda source: tif.read(source.path), batch))

    @override
    def compute(self, module: Autoencoder, batch: Sources, contents: Images) -> Pixels:
        return reconstruct_images(module, [image.pixels for image in contents], self.image_size)

    @override
    def write(self, batch: Sources, contents: Images, outputs: Pixels) -> list[ReconstructedImage]:
        """Return the results of a batch, in its order."""
        with ThreadPoolExecutor(_IO_THREADS) as threads:
            return list(threads.map(self._finish, batch, contents, outputs))

    def _finish(
        self, source: InputImage, image: tif.TifImage, reconstruction: np.ndarray
    ) -> ReconstructedImage:
        original, pixel_mm = image.pixels, image.pixel_mm or self.pixel_mm
        metrics = {
            "patient": source.patient,
            "pixel_mm": pixel_mm,
            **reconstruction_metrics(original, reconstruction, pixel_mm, self.data_range),
            "bone_height_mm": measure(bone_mask(original), pixel_mm).height * pixel_mm,
            "reconstructed_bone_height_mm": measure(bone_mask(reconstruction), pixel_mm).height * pixel_mm,
        }
        files = [
            self.output_dir / RAW / f"{source.name}.tif",
            self.output_dir / COMPARISONS / f"{source.name}.tif",
            self.output_dir / COMPARISONS / f"{source.name}.png",
        ]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        comparison = np.concatenate([original, reconstruction, reconstruction - original], axis=1)
        tif.write(files[0], reconstruction, image.pixel_mm)
        tif.write(files[1], comparison, image.pixel_mm)
        picture = draw_reconstruction(source.name, original, reconstruction, metrics, self.data_range)
        save_picture(picture, files[2])
        return ReconstructedImage(source, files, metrics)


def reconstruct_all(
    load: Load,
    work: ReconstructBatch,
    images: Sequence[InputImage],
    manifest: Manifest,
    batch_size: int,
    devices: Sequence[torch.device],
) -> None:
    """Reconstruct the images that the manifest doesn't list yet, and note them there.

    Args:
        load: Builds the module on the CPU; called once per device.
        work: Reconstructs a batch; picklable if there are several devices.
        images: The images to reconstruct.
        manifest: Manifest of the output folder.
        batch_size: Images at a time on each device.
        devices: From `choose_devices`.
    """
    waiting = [image for image in images if not manifest.is_done(image.name, image.path)]
    if len(waiting) < len(images):
        print(f"Resuming: {len(images) - len(waiting)} of {len(images)} images are done.")
    batches = batched(waiting, batch_size)
    results = (result for batch in run_batches(load, work, batches, devices) for result in batch)
    for result in track(results, "Reconstructing", total=len(waiting)):
        manifest.add(result.source.name, result.source.path, result.files, result.metrics)


def reconstruct_images(
    module: Autoencoder, images: Sequence[np.ndarray], image_size: int
) -> list[np.ndarray]:
    """Reconstruct raw images (H, W) of any sizes, each at its own size."""
    squares = np.stack([resize.pad_and_resize(image, image_size) for image in images])[:, None]
    raw = torch.from_numpy(squares).to(device_of(module))
    pixels = reconstruct(module, raw).float().cpu().numpy()[:, 0]
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    return [resize.restore_size(square, shape) for square, shape in zip(pixels, shapes, strict=True)]


def training_bounds(normalization: Normalization) -> tuple[float, float] | None:
    """Return the percentiles of the training tissue, raw units; None if a normalization has none."""
    if not isinstance(normalization, RangeNormalization):
        return None
    low, high = normalization.bounds[:2].tolist()
    return low, high


def fixed_data_range(normalization: Normalization, tissue: tuple[float, float]) -> tuple[float, str]:
    """Return one data range for a whole set in raw units, and how it was chosen.

    Args:
        normalization: The checkpoint's.
        tissue: Lowest and highest tissue value of the images; used if the normalisation has no statistics of
            its training set.
    """
    bounds = training_bounds(normalization)
    low, high = bounds or tissue
    origin = "the training set's tissue (percentiles)" if bounds else "the images' tissue"
    return float(high - min(low, 0.0)), f"from background to the top of {origin}"
