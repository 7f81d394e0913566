"""Textures of the phantom: random fields of a patient that change smoothly along the slices."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft  # unlike numpy before 2.0, it stays in float32

ROWS, COLUMNS = 256, 160
"""Size of the grid on which each texture is drawn, so that images of any size show the same bone."""

SLICE_CORRELATION = 0.8
"""Correlation of the noise behind two neighbouring slices."""


@dataclass(frozen=True)
class Texture:
    """Random fields of one slice, each float32 (rows, columns) of the drawn image.

    Attributes:
        struts: network of trabeculae in [0, 1].
        woven: finer, rounder network of healed sockets in [0, 1].
        coarse: slow variation, zero mean, unit standard deviation.
        fine: grain of compact tissue, zero mean, unit standard deviation.
        noise: two independent acquisition noises (dente, edente), unit standard deviation; (2, rows,
            columns).
    """

    struts: np.ndarray
    woven: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    noise: np.ndarray

    def widened(self, columns: int) -> "Texture":
        """Repeat the fields, which are periodic, on both sides up to this number of columns."""
        more = columns - self.struts.shape[1]
        sides = (more // 2, more - more // 2)
        fields = {
            name: np.pad(field, [(0, 0)] * (field.ndim - 1) + [sides], mode="wrap")
            for name, field in vars(self).items()
        }
        return Texture(**fields) if more else self


def draw_textures(
    rng: np.random.Generator, slices: int, image_size: int, pixel_mm: float, strut_mm: float, angle: float
) -> Iterator[Texture]:
    """Yield the textures of a patient's slices, in order.

    White noise follows a first-order autoregressive process along the slices; the first slices do not depend
    on the number of slices. In the plane it is band-passed around the spacing of trabeculae and bent into a
    network by exp(-g²/2w²), which is bright where the field g crosses zero.

    Args:
        rng: the patient's generator.
        slices: number of slices.
        image_size: rows of the image; the fields are resampled to image_size × (image_size·5/8).
        pixel_mm: pixel size of the 256-row grid, mm.
        strut_mm: distance between neighbouring trabeculae.
        angle: direction of the main trabeculae from the horizontal, radians.
    """
    filters = _filters(pixel_mm, strut_mm, angle)
    kept, added = SLICE_CORRELATION, np.sqrt(1 - SLICE_CORRELATION**2)
    white = np.zeros((0,))
    for index in range(slices):
        drawn = rng.standard_normal((len(filters), ROWS, COLUMNS), dtype=np.float32)
        white = drawn if index == 0 else np.float32(kept) * white + np.float32(added) * drawn
        white[-2:] = drawn[-2:]  # acquisition noise is independent in each slice
        fields = np.asarray(fft.irfft2(np.asarray(fft.rfft2(white)) * filters))
        gate = 0.5 * (1 + np.tanh(1.4 * fields[4]))
        main = _network(fields[0], 0.26 + 0.4 * gate) * (0.35 + 0.65 * gate)
        cross = _network(fields[1], 0.3) * (0.75 - 0.55 * gate)
        struts = np.clip(main + cross * (1 - main) + 0.1 * fields[5], 0, 1)
        woven = np.clip(0.75 * _network(fields[2], 0.5) + 0.15 + 0.12 * fields[5], 0, 1)
        stack = np.stack([struts, woven, fields[3], fields[5], fields[6], fields[7]])
        resampled = _resample(stack.astype(np.float32), image_size)
        yield Texture(*resampled[:4], noise=resampled[4:])


def _network(field: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    return np.exp(-0.5 * (field / width) ** 2)


def _filters(pixel_mm: float, strut_mm: float, angle: float) -> np.ndarray:
    """Build Fourier filters (unit variance): main and cross struts, woven, coarse, gate, fine, 2 × noise."""
    fy = np.fft.fftfreq(ROWS, pixel_mm)[:, None]
    fx = np.fft.rfftfreq(COLUMNS, pixel_mm)[None, :]

    def band(spacing: float, width: float, stretch: float, turn: float) -> np.ndarray:
        along = fx * np.cos(turn) + fy * np.sin(turn)
        across = -fx * np.sin(turn) + fy * np.cos(turn)
        radius = np.hypot(along * stretch, across) * 2 * spacing  # a network has two lines per period
        return np.exp(-0.5 * ((radius - 1) / width) ** 2)

    def low(sigma: float) -> np.ndarray:
        return np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))

    filters = [
        band(strut_mm, 0.45, 1.7, angle),
        band(strut_mm * 1.1, 0.5, 1.6, angle + 1.35),
        band(strut_mm * 0.75, 0.6, 1.0, 0.0),
        *(low(sigma) for sigma in (1.1, 0.45, 0.16, 0.11, 0.11)),
    ]
    stacked = np.stack(filters).astype(np.float32)
    stacked[:, 0, 0] = 0
    weight = np.full(fx.shape[1], 2.0)
    weight[[0, -1]] = 1
    power = (stacked**2 * weight).sum((1, 2), keepdims=True) / (ROWS * COLUMNS)
    return (stacked / np.sqrt(power)).astype(np.float32)


def _resample(fields: np.ndarray, image_size: int) -> np.ndarray:
    """Resample (n, ROWS, COLUMNS) to (n, image_size, image_size·5/8), band-limited."""
    if image_size == ROWS:
        return fields
    rows, columns = image_size, image_size * COLUMNS // ROWS
    spectrum = np.fft.fftshift(np.asarray(fft.rfft2(fields)), axes=1)
    half, mid = min(rows, ROWS) // 2, ROWS // 2
    width = min(columns, COLUMNS) // 2
    out = np.zeros((len(fields), rows, columns // 2 + 1), spectrum.dtype)
    out[:, rows // 2 - half : rows // 2 + half, :width] = spectrum[:, mid - half : mid + half, :width]
    scale = rows * columns / (ROWS * COLUMNS)
    resampled = fft.irfft2(np.fft.ifftshift(out, axes=1), s=(rows, columns))
    return np.asarray(resampled) * np.float32(scale)
