"""Images through a trained autoencoder and back to files: raw reconstructions, comparisons, figures."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.drawing.panels import diverging, grey, tissue_window, titled_row
from pti.metrics.image import reconstruction_metrics
from pti.metrics.morphometry import bone_mask, measure

RAW, COMPARISONS = "reconstructions", "comparisons"
DIFFERENCE_SHARE = 0.1
"""Share of the data range at which a difference gets its full colour."""

_WRITERS = 4


@dataclass(frozen=True)
class Reconstructed:
    """One image's results: what was written, and the figures of ``metrics.csv``."""

    source: InputImage
    files: list[Path]
    figures: dict[str, Any]


@dataclass(frozen=True)
class Reconstruct:
    """Reconstructs a batch of images and writes what belongs to each.

    Below ``output_dir``: ``reconstructions/NAME.tif`` in raw units, ``comparisons/NAME.tif`` (original |
    reconstruction | reconstruction - original, side by side, raw units) and ``comparisons/NAME.png``, the
    same to look at. All at the input's own size and resolution.

    Attributes:
        output_dir: existing folder.
        image_size: side of the square that the network sees, pixels.
        pixel_mm: edge of a pixel in mm, for files that don't say.
        data_range: of the data set, raw units, for PSNR and SSIM and the colours of differences.
    """

    output_dir: Path
    image_size: int
    pixel_mm: float
    data_range: float

    def __call__(self, module: nn.Module, sources: Sequence[InputImage]) -> list[Reconstructed]:
        """The results of a batch, in its order."""
        with ThreadPoolExecutor(_WRITERS) as threads:
            images = list(threads.map(lambda source: tif.read(source.path), sources))
            found = reconstruct_images(module, [image.pixels for image in images], self.image_size)
            return list(threads.map(self._finish, sources, images, found))

    def _finish(self, source: InputImage, image: tif.TifImage, reconstruction: np.ndarray) -> Reconstructed:
        original, pixel_mm = image.pixels, image.pixel_mm or self.pixel_mm
        figures = {
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
        difference = reconstruction - original
        tif.write(files[0], reconstruction, image.pixel_mm)
        tif.write(files[1], np.concatenate([original, reconstruction, difference], axis=1), image.pixel_mm)
        self._draw(files[2], source, original, reconstruction, figures)
        figures = {"patient": source.patient, "pixel_mm": pixel_mm, **figures}
        return Reconstructed(source, files, figures)

    def _draw(
        self,
        path: Path,
        source: InputImage,
        original: np.ndarray,
        reconstruction: np.ndarray,
        figures: dict[str, float],
    ) -> None:
        window = tissue_window(original)  # the image's own: never dark, whatever the other images hold
        limit = DIFFERENCE_SHARE * self.data_range
        panels = [
            ("original", grey(original, window)),
            ("reconstruction", grey(reconstruction, window)),
            ("reconstruction − original", diverging(reconstruction - original, limit)),
        ]
        heights = "{bone_height_mm:.2f} → {reconstructed_bone_height_mm:.2f} mm".format(**figures)
        words = f"PSNR {figures['psnr']:.1f} dB, SSIM {figures['ssim']:.3f}, bone height {heights}"
        picture = titled_row(panels, f"{source.name}\n{words}", (2, f"−{limit:.3g}", f"+{limit:.3g}"))
        beside = path.with_name(f".{path.name}.part")
        picture.save(beside, "PNG")
        beside.replace(path)


def reconstruct_images(module: nn.Module, images: Sequence[np.ndarray], image_size: int) -> list[np.ndarray]:
    """Raw images (H, W) of any sizes through ``module.reconstruct``, each back at its own size."""
    device = next(module.parameters()).device
    squares = np.stack([resize.pad_and_resize(image, image_size) for image in images])[:, None]
    found: Tensor = module.reconstruct(torch.from_numpy(squares).to(device))  # pyright: ignore[reportCallIssue]
    pixels = found.float().cpu().numpy()[:, 0]
    return [resize.restore_size(pixels[index], image.shape) for index, image in enumerate(images)]  # pyright: ignore[reportArgumentType]


def fixed_data_range(normalization: nn.Module, tissue: tuple[float, float]) -> tuple[float, str]:
    """The data range of a whole set in raw units, and where it comes from.

    Args:
        normalization: the checkpoint's.
        tissue: lowest and highest tissue of the images; used where the normalisation keeps no statistics of
            a set.
    """
    bounds = getattr(normalization, "bounds", None)
    low, high = tissue if bounds is None else bounds[:2].tolist()
    origin = "the images' tissue" if bounds is None else "the training set's tissue (percentiles)"
    return float(high - min(low, 0.0)), f"from background to the top of {origin}"
