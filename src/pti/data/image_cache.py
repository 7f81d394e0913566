"""Raw images, decoded and resized: read from their files, or from one memory-mapped file.

An image cache is a folder with ``images.npy``, (rows, size, size) float32, and ``rows.json``. Under its lock,
one process builds it and others wait.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pti.common.errors import DataError
from pti.common.files import to_bytes
from pti.common.progress import track
from pti.data.background import measure_background
from pti.data.layouts import Pair
from pti.data.memory_maps import MappedArray, mark_used, remove_unused
from pti.data.resize import pad_and_resize, pixel_mm_after
from pti.data.splits import evenly_spaced
from pti.data.tif import TifError, inspect, read
from pti.runs.lock import exclusive

_VERSION = 5


class Scale(NamedTuple):
    """Longer edge in pixels and edge of a pixel in mm (None if not stated), before resizing."""

    size: int
    pixel_mm: float | None


class FileImages:
    """Images that are read, decoded and resized at every access.

    Args:
        pairs: Pairs of the data set, in order.
        image_size: Edge of the square images in pixels.

    Attributes:
        files: Files of all images; their indices are called rows.
        fingerprint: 16 hexadecimal digits that change with any file (path, size, modification time) or
            setting.
        stored_dtypes: Number of files by their stored data type; empty while unknown.

    Raises:
        DataError: A file is missing.
    """

    def __init__(self, pairs: Sequence[Pair], image_size: int) -> None:
        self.image_size = image_size
        self.files = [file for pair in pairs for file in pair.files.values()]
        rows = count()
        self._rows = [{role: next(rows) for role in pair.files} for pair in pairs]
        self.fingerprint = _fingerprint(self.files, image_size)
        self.stored_dtypes: dict[str, int] = {}

    @cached_property
    def backgrounds(self) -> dict[Path, float]:
        """Background of each file, or of some that are read for it; see `pti.data.background`."""
        return {file: measure_background(read(file).pixels) for file in evenly_spaced(self.files, 16)}

    def image(self, index: int, role: str) -> np.ndarray:
        """Return a raw image of a pair, (image_size, image_size) float32.

        Args:
            index: Index of the pair.
            role: ``condition`` or ``target``.
        """
        if role not in self._rows[index]:
            raise IndexError(f"pair {index} has no {role} image")
        return self.row(self._rows[index][role])

    def file(self, index: int, role: str) -> Path:
        """Return the file of a pair's image."""
        return self.files[self._rows[index][role]]

    def pixel_mm(self, index: int, default: float) -> float:
        """Return the edge of a pixel in mm after resizing.

        Args:
            index: Index of the pair.
            default: Edge of a pixel before resizing, if neither target nor condition states one.
                The target's takes precedence.
        """
        scales = [self.scale(row) for row in reversed(self._rows[index].values())]  # target first
        scale = next((scale for scale in scales if scale.pixel_mm is not None), scales[0])
        return pixel_mm_after((scale.size, scale.size), self.image_size, scale.pixel_mm or default)

    def row(self, row: int) -> np.ndarray:
        """Return the image of ``files[row]``."""
        return pad_and_resize(read(self.files[row]).pixels, self.image_size)

    def scale(self, row: int) -> Scale:
        """Return size and resolution of ``files[row]`` before resizing."""
        header = inspect(self.files[row])
        return Scale(max(header.shape), header.pixel_mm)


class ImageCache(FileImages):
    """The same images from their cache, which is built if it is missing or anything has changed.

    Args:
        pairs: Pairs of the data set, in order.
        image_size: Edge of the square images in pixels.
        cache_dir: Folder of all caches; created if it does not exist.
        workers: Threads that read and decode.

    Attributes:
        folder: Folder of this cache.

    Raises:
        DataError: Some files can't be used (the message names each), or the cache can't be written.
    """

    def __init__(self, pairs: Sequence[Pair], image_size: int, cache_dir: Path, workers: int = 2) -> None:
        super().__init__(pairs, image_size)
        self.folder = cache_dir / f"{self.fingerprint}-{image_size}"
        self._images = MappedArray(self.folder / "images.npy")
        if not self._images.exists:
            self._build_alone(workers)
        mark_used(self.folder)
        facts = json.loads((self.folder / "rows.json").read_text(encoding="utf-8"))
        self._scales = [Scale(*scale) for scale in facts["scales"]]
        self.stored_dtypes = facts["stored_dtypes"]
        self.backgrounds = dict(zip(self.files, facts["backgrounds"], strict=True))

    def row(self, row: int) -> np.ndarray:
        """Return the image of ``files[row]``, a read-only view of the mapped file."""
        return self._images.values[row]

    def scale(self, row: int) -> Scale:
        """Return size and resolution of ``files[row]`` before resizing."""
        return self._scales[row]

    def _build_alone(self, workers: int) -> None:
        """Build the cache, unless another process does so while this one waits."""
        caches = self.folder.parent
        message = f"Waiting for another process that builds the cache {self.folder}."
        try:
            caches.mkdir(parents=True, exist_ok=True)
            remove_unused(caches)
            with exclusive(self.folder, message, wait=True):
                if not self._images.exists:
                    self._build(workers)
        except OSError as error:
            need, reason = len(self.files) * self.image_size**2 * 4 // 2**20 + 1, error.strerror or error
            fix = f"Make it writable with {need:,} MB free, or set data.cache_dir, or data.cache=false."
            raise DataError(f"{caches}: the image cache can't be written ({reason}). {fix}") from None

    def _build(self, workers: int) -> None:
        self._images.create((len(self.files), self.image_size, self.image_size))
        rows = self._images.unfinished()

        def decode(row: int) -> tuple[Scale, str, float] | TifError:
            try:
                image = read(self.files[row])
            except TifError as error:
                return error
            rows[row] = pad_and_resize(image.pixels, self.image_size)
            scale = Scale(max(image.pixels.shape), image.pixel_mm)
            return scale, image.stored_dtype, measure_background(image.pixels)

        # Reading, inflating and resizing release the GIL.
        with ThreadPoolExecutor(workers) as pool:
            results = list(track(pool.map(decode, range(len(rows))), "Building the image cache", len(rows)))
        if faults := [result for result in results if isinstance(result, TifError)]:
            self._images.discard()
            raise faults[0] if len(faults) == 1 else DataError("\n".join(map(str, faults)))
        rows.flush()
        scales, dtypes, backgrounds = zip(
            *(result for result in results if isinstance(result, tuple)), strict=True
        )
        facts = {"scales": scales, "stored_dtypes": Counter(dtypes), "files": list(map(str, self.files))}
        facts["backgrounds"] = backgrounds
        (self.folder / "rows.json").write_text(json.dumps(facts), encoding="utf-8")
        self._images.finish()


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
        digest.update(to_bytes(f"\n{name}/{status.st_size}/{status.st_mtime_ns}"))
    return digest.hexdigest()[:16]
