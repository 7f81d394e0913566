"""The directory of a TIF file: the tags of its only page, and the values derived from them."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np

from pti.common.errors import DataError
from pti.data.tif.description import PixelSize, described_size

RESAVE = "Save the image again as one uncompressed float32 page."
COPY = "Copy the file again from its source."

_RESOLUTION_UNITS = {2: ("inch", 25.4), 3: ("cm", 10.0)}  # name, millimetres
_SAMPLES = {1: "uint", 2: "int", 3: "float", 6: "complex"}


class Tag(IntEnum):
    """The tags that are read; all others are only checked to lie within the file."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    CHANNELS = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    RESOLUTION_UNIT = 296
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SAMPLE_FORMAT = 339
    DEPTH = 32997
    MODEL_PIXEL_SCALE = 33550
    METAMORPH_PLANES = 33629
    GDAL_METADATA = 42112
    GDAL_NODATA = 42113


class TifError(DataError):
    """A file that can't be used.

    Attributes:
        path: The file.
        fault: Short code: ``empty``, ``not_tif``, ``header_only``, ``truncated``, ``loop``, ``pages``,
            ``channels``, ``dtype``, ``meaning``, ``too_large``, ``bomb``, ``codec``, ``pixels``,
            ``non_finite`` or ``unreadable``.
        what: Description of the fault, in the third person.
        fix: Advice for the user.
    """

    def __init__(self, path: Path, fault: str, what: str, fix: str) -> None:
        # All four are `args`, so that the error can be pickled in a worker process.
        super().__init__(path, fault, what, fix)
        self.path, self.fault, self.what, self.fix = path, fault, what, fix

    def __str__(self) -> str:
        return f"{self.path}: {self.what}. {self.fix}"


@dataclass(frozen=True)
class Directory:
    """The tags of a file's only page and the values derived from them.

    Attributes:
        path: The file.
        tags: Tag -> values (integers; floats for the resolution and GeoTIFF's scale; bytes for texts).
        byte_order: ``<`` or ``>``.
        file_bytes: Size of the file.
    """

    path: Path
    tags: dict[int, tuple]
    byte_order: str
    file_bytes: int

    def first(self, tag: Tag, default: int) -> int:
        """Return the first value of a tag."""
        return int(self.tags[tag][0]) if tag in self.tags else default

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels; 0 where the tag is missing."""
        return self.first(Tag.HEIGHT, 0), self.first(Tag.WIDTH, 0)

    def text(self, *tags: Tag) -> str:
        """Return the texts of these tags, one per line."""
        texts = [text for tag in tags for text in self.tags.get(tag, ())]
        try:
            return b"\n".join(texts).replace(b"\0", b"").decode()
        except UnicodeDecodeError:
            return b"\n".join(texts).replace(b"\0", b"").decode("latin-1")

    @cached_property
    def pixel_sizes(self) -> list[PixelSize]:
        """All that the file states: its resolution tag, and the description by ImageJ or OME."""
        across, down = (self.tags.get(tag, (0.0,))[0] for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION))
        unit, mm = _RESOLUTION_UNITS.get(self.first(Tag.RESOLUTION_UNIT, 2), ("", 0.0))
        source = f"XResolution {across:g} per {unit}"
        tagged = PixelSize(mm / across, mm / (down or across), source) if mm and across else None
        described = described_size(self.text(Tag.DESCRIPTION), across, down)
        return [size for size in (tagged, described) if size is not None]

    @property
    def pixel_mm(self) -> float | None:
        """Edge of a pixel in millimetres; None if the file states no size."""
        return self.pixel_sizes[0].x if self.pixel_sizes else None

    @property
    def dtype_name(self) -> str:
        """Name of the stored data type, which numpy may lack (uint12, for example)."""
        return f"{_SAMPLES.get(self.first(Tag.SAMPLE_FORMAT, 1), 'unknown')}{self.first(Tag.BITS, 1)}"

    @cached_property
    def dtype(self) -> np.dtype:
        """The stored data type in the file's byte order."""
        return np.dtype(self.dtype_name).newbyteorder("big" if self.byte_order == ">" else "little")

    @property
    def compression(self) -> int:
        """Compression scheme; 1 is none."""
        return self.first(Tag.COMPRESSION, 1)

    @property
    def tiled(self) -> bool:
        """Whether the image is stored in tiles instead of strips."""
        return Tag.TILE_OFFSETS in self.tags

    @cached_property
    def segment_shape(self) -> tuple[int, int]:
        """(rows, columns) of a tile or of a full strip."""
        height, width = self.shape
        if self.tiled:
            return self.first(Tag.TILE_HEIGHT, 0), self.first(Tag.TILE_WIDTH, 0)
        return min(self.first(Tag.ROWS_PER_STRIP, height), height), width

    @cached_property
    def segment_count(self) -> int:
        """Number of strips or tiles that cover the image."""
        (height, width), (rows, columns) = self.shape, self.segment_shape
        return -(-height // rows) * -(-width // columns) if rows > 0 and columns > 0 else 0

    @cached_property
    def segments(self) -> list[tuple[int, int]]:
        """(offset, stored bytes) of each listed strip or tile that covers the image."""
        offsets = self.tags[Tag.TILE_OFFSETS if self.tiled else Tag.STRIP_OFFSETS][: self.segment_count]
        counts = self.tags.get(Tag.TILE_BYTES if self.tiled else Tag.STRIP_BYTES)
        if counts is None:  # allowed in old files without compression
            counts = tuple(self.segment_bytes(index) for index in range(len(offsets)))
        return list(zip(offsets, counts, strict=False))

    def segment_bytes(self, index: int) -> int:
        """Return the decoded size of a strip or tile; the last strip may be shorter."""
        rows, columns = self.segment_shape
        if not self.tiled:
            rows = min(rows, self.shape[0] - index * rows)
        return rows * columns * self.dtype.itemsize
