"""Decoded, resized raw images in one memory-mapped file, built once, shared by workers, ranks and runs.

A cache is a folder named after its fingerprint, with ``images.npy`` (rows, size, size) float32 and
``rows.json``. It is built beside under another name and renamed when whole, under a lock: a killed builder
leaves nothing that would be taken for a cache, and of two builders one waits for the other. The cache folder
may be deleted at any time between runs.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from filelock import FileLock, Timeout

from pti.common.errors import DataError
from pti.common.progress import track
from pti.data.cache_age import mark_used, remove_unused
from pti.data.layouts import Pair
from pti.data.resize import pad_and_resize, pixel_mm_after
from pti.data.tif import TifError, inspect, read

_VERSION = 3
_CHUNK = 256  # rows decoded ahead of the writer: 64 MB at 256 x 256
_LOG = logging.getLogger(__name__)
_Decoded = tuple[np.ndarray, "Scale", str]


class Scale(NamedTuple):
    """Longest side in pixels and edge of a pixel in millimetres (None without a tag), before resizing."""

    side: int
    pixel_mm: float | None


class FileImages:
    """Images read, decoded and resized at every access. `ImageCache` is the same from memory.

    Args:
        pairs: the data set, in order.
        image_size: side of the images in pixels.

    Attributes:
        fingerprint: 16 hexadecimal digits; changes with any file (path, size, time of change) or setting.

    Raises:
        DataError: a file is not there.
    """

    def __init__(self, pairs: Sequence[Pair], image_size: int) -> None:
        self.image_size = image_size
        sides = [(pair.condition, pair.target) for pair in pairs]
        self.files = [file for both in sides for file in both if file is not None]
        counter = iter(range(len(self.files)))
        self._rows = [tuple(None if file is None else next(counter) for file in both) for both in sides]
        self.fingerprint = _fingerprint(self.files, image_size)

    def condition(self, index: int) -> np.ndarray:
        """(image_size, image_size) float32 raw image of the pair with that index."""
        return self.row(self._row(index, 0))

    def target(self, index: int) -> np.ndarray:
        """(image_size, image_size) float32 raw image of the pair with that index."""
        return self.row(self._row(index, 1))

    def pixel_mm(self, index: int, default: float) -> float:
        """Edge of a pixel in millimetres after resizing.

        By the target's resolution tag, or else the condition's, or else ``default``, which is meant before
        resizing.
        """
        condition, target = self._rows[index]
        scales = [self.scale(row) for row in (target, condition) if row is not None]
        found = next((scale for scale in scales if scale.pixel_mm is not None), scales[0])
        return pixel_mm_after((found.side, found.side), self.image_size, found.pixel_mm or default)

    @property
    def stored_dtypes(self) -> dict[str, int]:
        """Types in the files with their counts; empty while unknown."""
        return {}

    def row(self, row: int) -> np.ndarray:
        """The image in ``files[row]``."""
        return pad_and_resize(read(self.files[row]).pixels, self.image_size)

    def scale(self, row: int) -> Scale:
        """Size and resolution of ``files[row]`` before resizing."""
        header = inspect(self.files[row])
        return Scale(max(header.shape), header.pixel_mm)

    def _row(self, index: int, side: int) -> int:
        row = self._rows[index][side]
        if row is None:
            raise IndexError(f"pair {index} has no {('condition', 'target')[side]}")
        return row


class ImageCache(FileImages):
    """Images from a finished cache. Each process opens it for itself, at the first access."""

    def __init__(self, pairs: Sequence[Pair], image_size: int, folder: Path) -> None:
        super().__init__(pairs, image_size)
        self.folder = folder
        self._images: np.ndarray | None = None
        facts = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        self._scales = [Scale(*scale) for scale in facts["scales"]]
        self._dtypes: dict[str, int] = facts["stored_dtypes"]

    @property
    def stored_dtypes(self) -> dict[str, int]:
        """Types in the files with their counts."""
        return self._dtypes

    def row(self, row: int) -> np.ndarray:
        """The image of ``files[row]``: a read-only view of the mapped file."""
        if self._images is None:
            self._images = np.load(self.folder / "images.npy", mmap_mode="r")
        return cast(np.ndarray, self._images)[row]

    def scale(self, row: int) -> Scale:
        """Size and resolution of ``files[row]`` before resizing."""
        return self._scales[row]

    def __getstate__(self) -> dict:
        # A mapping would be sent to a spawned worker as its whole content.
        return {**self.__dict__, "_images": None}


def open_cache(pairs: Sequence[Pair], image_size: int, cache_dir: str | Path, workers: int = 2) -> ImageCache:
    """Open the cache of these images; build it first where it is missing or anything has changed.

    Args:
        pairs: the data set, in order; its files' sizes and times of change are looked at.
        image_size: side of the images in pixels.
        cache_dir: folder of all caches; made when missing.
        workers: threads that read and decode.

    Raises:
        DataError: files can't be used (each is named), or the cache folder can't be written.
    """
    plain = FileImages(pairs, image_size)
    folder = Path(cache_dir) / f"{plain.fingerprint}-{image_size}"
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            remove_unused(folder.parent)
            _build_alone(plain, folder, workers)
        except OSError as error:
            need = len(plain.files) * image_size**2 * 4 / 2**20
            fix = f"Make it writable with {need:,.0f} MB free, or set data.cache_dir, or data.cache=false."
            raise DataError(
                f"{cache_dir}: the cache can't be written ({error.strerror or error}). {fix}"
            ) from None
    mark_used(folder)
    return ImageCache(pairs, image_size, folder)


def _build_alone(images: FileImages, folder: Path, workers: int) -> None:
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.warning("Another process is building the cache %s: waiting for it.", folder)
        lock.acquire()
    try:
        if not folder.is_dir():
            _build(images, folder, workers)
    finally:
        lock.release()


def _build(images: FileImages, folder: Path, workers: int) -> None:
    """Write the rows in order, as an ordinary file: there a full disk is an error, in a mapping a crash."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # left by a builder that was killed; the lock is ours
    beside.mkdir()
    scales: list[Scale] = []
    dtypes: Counter[str] = Counter()
    faults: list[TifError] = []
    shape = (len(images.files), images.image_size, images.image_size)
    with open(beside / "images.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for decoded in track(_decoded(images, workers), "Building the image cache", total=len(images.files)):
            if isinstance(decoded, TifError):
                faults.append(decoded)
                continue
            pixels, scale, dtype = decoded
            file.write(np.ascontiguousarray(pixels, "<f4").data)
            scales.append(scale)
            dtypes[dtype] += 1
        file.flush()
        os.fsync(file.fileno())
    if faults:
        shutil.rmtree(beside, ignore_errors=True)
        raise faults[0] if len(faults) == 1 else DataError("\n".join(str(fault) for fault in faults))
    facts = {"scales": scales, "stored_dtypes": dtypes, "files": [str(file) for file in images.files]}
    (beside / "rows.json").write_text(json.dumps(facts), encoding="utf-8")
    os.rename(beside, folder)


def _decoded(images: FileImages, workers: int) -> Iterator[_Decoded | TifError]:
    """Rows in order, decoded by threads (reading, inflating and resizing release Python's lock)."""

    def decode(row: int) -> _Decoded | TifError:
        try:
            image = read(images.files[row])
        except TifError as error:
            return error
        scale = Scale(max(image.pixels.shape), image.pixel_mm)
        return pad_and_resize(image.pixels, images.image_size), scale, image.stored_dtype

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(images.files), _CHUNK):
            yield from pool.map(decode, range(start, min(start + _CHUNK, len(images.files))))


def _fingerprint(files: Sequence[Path], image_size: int) -> str:
    digest = hashlib.sha256(f"{_VERSION}/{image_size}".encode())
    base = os.path.commonpath([file.parent for file in files]) if files else ""
    for file in files:
        try:
            status = os.stat(file)
        except OSError as error:
            fix = "Restore it, or remove its partner as well."
            raise DataError(f"{file}: the file can't be found ({error.strerror}). {fix}") from None
        name = os.path.relpath(file, base)
        digest.update(f"\n{name}/{status.st_size}/{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
