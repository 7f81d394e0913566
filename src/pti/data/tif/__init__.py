"""Reading and writing of TIF files with a single grey image.

Each call opens and closes its own file and may be used from any number of threads and processes. Nothing is
decoded before the sizes that the file declares have been compared with its actual size
(`pti.data.tif.checks`).
"""

import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from pti.data.tif.checks import BUILT_IN, check
from pti.data.tif.codecs import DECODERS
from pti.data.tif.directory import COPY, RESAVE, Directory, Tag, TifError
from pti.data.tif.reader import read_directory

__all__ = ["TifError", "TifHeader", "TifImage", "inspect", "read", "write"]


@dataclass(frozen=True)
class TifHeader:
    """Header of a file, consistent with the file's size.

    Attributes:
        shape: (H, W) in pixels.
        dtype: Stored data type, in native byte order.
        pixel_mm: Edge of a pixel in millimetres; None if the file states none.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    pixel_mm: float | None


@dataclass(frozen=True)
class TifImage:
    """A raw image.

    Attributes:
        pixels: (H, W) float32 in the file's units, all finite.
        pixel_mm: Edge of a pixel in millimetres; None if the file states none.
        stored_dtype: Data type in the file; pixels were converted unless it is ``float32``.
    """

    pixels: np.ndarray
    pixel_mm: float | None
    stored_dtype: str


def inspect(path: str | Path) -> TifHeader:
    """Read and check the header only.

    Raises:
        TifError: The file can't contain a usable image; `TifError.fault` gives the reason.
    """
    with _open(Path(path)) as (directory, _):
        return TifHeader(directory.shape, directory.dtype.newbyteorder("="), directory.pixel_mm)


def read(path: str | Path) -> TifImage:
    """Read one image: check the header, decode no more than the declared size, require finite pixels.

    For any file, this needs at most about three times the memory of the largest allowed image (4096 x 4096).

    Raises:
        TifError: The file can't be used; `TifError.fault` gives the reason.
    """
    path = Path(path)
    with _open(path) as (directory, file):
        stored = _decode(directory, file)
    with np.errstate(over="ignore"):  # float64 values beyond float32 become infinite
        pixels = np.array(stored, dtype=np.float32)
    finite = np.count_nonzero(np.isfinite(pixels))
    if finite < pixels.size:
        nan = np.count_nonzero(np.isnan(pixels))
        what = f"contains {nan} NaN and {pixels.size - finite - nan} infinite pixels of {pixels.size}"
        raise TifError(path, "non_finite", what, "Replace them; use 0 where there is no tissue.")
    return TifImage(pixels, directory.pixel_mm, directory.dtype.name)


def write(path: str | Path, pixels: np.ndarray, pixel_mm: float | None = None) -> None:
    """Write a raw image atomically, as one uncompressed float32 page.

    Args:
        path: The file; its folder must exist.
        pixels: (H, W), any real type.
        pixel_mm: Edge of a pixel in millimetres, stored in the resolution tag (pixels per centimetre).
    """
    path = Path(path)
    if pixels.ndim != 2:
        raise ValueError(f"expected one image of shape (H, W), got {pixels.shape}")
    tags = {} if pixel_mm is None else {"resolution": (10 / pixel_mm,) * 2, "resolutionunit": "CENTIMETER"}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    grey = np.asarray(pixels, np.float32)
    try:
        # metadata=None omits description and date, so that equal pixels give equal files.
        tifffile.imwrite(beside, grey, photometric="minisblack", metadata=None, software="pti", **tags)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Directory, BinaryIO]]:
    """Open a regular file (no folder, dangling link or pipe) and check its directory."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise TifError(path, "unreadable", f"is {kind}", "Rename or remove it.")
        with open(path, "rb") as file:
            directory = read_directory(path, file, status.st_size)
            check(directory)
            yield directory, file
    except FileNotFoundError:
        what = f"is a link to {os.readlink(path)}, which is missing" if path.is_symlink() else "is missing"
        raise TifError(path, "unreadable", what, "Restore the file, or remove its entry.") from None
    except OSError as error:
        what = f"can't be read ({error.strerror or error})"
        raise TifError(path, "unreadable", what, "Check its permissions and the disk.") from None


def _decode(directory: Directory, file: BinaryIO) -> np.ndarray:
    """Decode to (H, W) in the stored type; tifffile decodes what needs imagecodecs."""
    if directory.compression in BUILT_IN:
        pixels = np.empty(directory.shape, directory.dtype)
        rows, columns = directory.segment_shape
        across = -(-directory.shape[1] // columns)
        for index, data in enumerate(_segments(directory, file)):
            top, left = index // across * rows, index % across * columns
            area = pixels[top : top + rows, left : left + columns]
            area[:] = _undo_predictor(directory, data, columns)[: area.shape[0], : area.shape[1]]
        return pixels
    try:
        with tifffile.TiffFile(directory.path, is_lsm=False, is_ndpi=False, is_scanimage=False) as tif:
            return tif.pages.first.asarray(maxworkers=1).reshape(directory.shape)
    except Exception as error:
        what = f"can't be decoded ({type(error).__name__}: {error})"
        raise TifError(directory.path, "unreadable", what, RESAVE) from error


def _undo_predictor(directory: Directory, data: bytes, columns: int) -> np.ndarray:
    """Return the pixels of a strip or tile, (rows, columns), whose rows were stored as differences."""
    dtype, predictor = directory.dtype, directory.first(Tag.PREDICTOR, 1)
    if predictor == 2:  # of neighbours, as integers of the same width
        words = np.frombuffer(data, f"{dtype.byteorder}u{dtype.itemsize}").reshape(-1, columns)
        words = words.astype(words.dtype.newbyteorder("="))
        return words.cumsum(1, dtype=words.dtype).view(dtype.newbyteorder("="))
    if predictor == 3:  # of bytes, the most significant bytes of the row first
        rows = np.frombuffer(data, np.uint8).reshape(-1, dtype.itemsize * columns).cumsum(1, dtype=np.uint8)
        planes = rows.reshape(-1, dtype.itemsize, columns).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(dtype.newbyteorder(">"))[..., 0]
    return np.frombuffer(data, dtype).reshape(-1, columns)


def _segments(directory: Directory, file: BinaryIO) -> Iterator[bytes]:
    """Yield the decoded bytes of each strip or tile, never more than declared."""
    decode = DECODERS.get(directory.compression)
    for index, (offset, count) in enumerate(directory.segments):
        expected = directory.segment_bytes(index)
        file.seek(offset)
        # Compression expands incompressible data by a few percent; anything longer is not pixel data.
        data = file.read(min(count, expected + expected // 20 + 65536))
        if decode is not None:
            try:
                data = decode(data, expected + 1)  # one byte more reveals a stream that is too long
            except (zlib.error, lzma.LZMAError, EOFError) as error:
                what = f"has damaged compressed pixels ({error})"
                raise TifError(directory.path, "unreadable", what, COPY) from None
            if len(data) > expected:
                what = f"decompresses to more than the {expected} bytes that it declares"
                raise TifError(directory.path, "bomb", what, "Remove it, or save the image again.")
        if len(data) < expected:
            what = f"is truncated: strip {index} contains {len(data)} of {expected} bytes"
            raise TifError(directory.path, "truncated", what, COPY)
        yield data[:expected]
