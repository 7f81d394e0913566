"""The directory of a TIF file: its tags, checked against the file's actual size.

A TIF file declares its dimensions, the positions of its pixels and the start of its next page. Any of these
may be wrong, by accident (a truncated copy) or on purpose. The few tags that matter are therefore read here
with `struct`, and no number in the file determines how much memory or time reading takes.

Tags and types follow TIFF revision 6.0 (Adobe, 1992) and the BigTIFF design.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pti.common.errors import DataError

RESAVE = "Save the image again as one uncompressed float32 page."
COPY = "Copy the file again from its source."

_MAX_PAGES = 1000
_MAX_SEGMENTS = 65536
_TYPES_OF_BYTES = {1: (1, 2, 6, 7), 2: (3, 8), 4: (4, 9, 11, 13), 8: (5, 10, 12, 16, 17, 18)}
_TYPE_BYTES = {kind: size for size, kinds in _TYPES_OF_BYTES.items() for kind in kinds}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_RATIONAL = 5
_SAMPLES = {1: "u", 2: "i", 3: "f", 5: "i", 6: "c"}
_MAGIC = {b"\x89PNG": "is a PNG image", b"\xff\xd8\xff": "is a JPEG image", b"PK\x03\x04": "is a ZIP archive"}


class Tag(IntEnum):
    """The tags that are read; all others are only checked to lie within the file."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
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


_READ_TAGS = frozenset(int(tag) for tag in Tag)


class TifError(DataError):
    """A file that can't be used.

    Attributes:
        path: The file.
        fault: Short code: ``empty``, ``not_tif``, ``header_only``, ``truncated``, ``loop``, ``pages``,
            ``channels``, ``dtype``, ``too_large``, ``bomb``, ``codec``, ``pixels``, ``non_finite`` or
            ``unreadable``.
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
        tags: Tag -> values (integers; floats for the resolution).
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

    @cached_property
    def dtype(self) -> np.dtype | None:
        """The stored data type in the file's byte order; None if numpy lacks it (12 bits, for example)."""
        kind, bits = _SAMPLES.get(self.first(Tag.SAMPLE_FORMAT, 1)), self.first(Tag.BITS, 1)
        try:
            return np.dtype(f"{self.byte_order}{kind}{bits // 8}") if kind and bits % 8 == 0 else None
        except TypeError:
            return None

    @cached_property
    def segment_shape(self) -> tuple[int, int]:
        """(rows, columns) of a tile or of a full strip."""
        height, width = self.shape
        if Tag.TILE_OFFSETS in self.tags:
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
        tiled = Tag.TILE_OFFSETS in self.tags
        offsets = self.tags.get(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS, ())[: self.segment_count]
        counts = self.tags.get(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES)
        if counts is None:  # allowed in old files without compression
            counts = tuple(self.segment_bytes(index) for index in range(len(offsets)))
        return list(zip(offsets, counts, strict=False))

    def segment_bytes(self, index: int) -> int:
        """Return the decoded size of a strip or tile; the last strip may be shorter."""
        rows, columns = self.segment_shape
        if Tag.TILE_OFFSETS not in self.tags:
            rows = min(rows, self.shape[0] - index * rows)
        return rows * columns * (self.dtype.itemsize if self.dtype else 1)


def read_directory(path: Path, file: BinaryIO, size: int) -> Directory:
    """Read the tags of a file that must have exactly one page.

    Raises:
        TifError: ``empty``, ``not_tif``, ``header_only``, ``truncated``, ``loop``, ``pages``, ``unreadable``.
    """
    reader = _Reader(path, file, size)
    pages = reader.pages()
    if not pages:
        raise TifError(path, "header_only", "contains a TIF header and no image", COPY)
    if len(pages) > 1:
        count = f"{len(pages)}" if len(pages) <= _MAX_PAGES else f"more than {_MAX_PAGES}"
        fix = "Save each page in a separate file."
        raise TifError(path, "pages", f"contains {count} pages; expected one", fix)
    return Directory(path, reader.tags(pages[0]), reader.order, size)


class _Reader:
    """Reader of a chain of directories that checks every access against the file's size."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.head = file.read(4096)  # usually contains everything: one system call
        self.order, self.big = self._magic()
        self.word, self.count, self.count_bytes = ("Q", "Q", 8) if self.big else ("I", "H", 2)
        self.entry, self.entry_bytes, self.inline_bytes = ("HHQ", 20, 8) if self.big else ("HHI", 12, 4)

    def _magic(self) -> tuple[str, bool]:
        head = self.head
        if not head:
            raise TifError(self.path, "empty", "is empty (0 bytes)", COPY)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) >= 4 else 0
        if version not in (42, 43):
            kinds = (kind for magic, kind in _MAGIC.items() if head.startswith(magic))
            what = f"is not a TIF file: it {next(kinds, f'starts with {head[:8]!r}')}"
            raise TifError(self.path, "not_tif", what, "Convert it to TIF, or remove it.")
        return order, version == 43

    def at(self, offset: int, count: int) -> bytes:
        if offset + count > self.size:
            what = f"is truncated: bytes {offset} to {offset + count} are needed, the file has {self.size}"
            raise TifError(self.path, "truncated", what, COPY)
        if offset + count <= len(self.head):
            return self.head[offset : offset + count]
        self.file.seek(offset)
        return self.file.read(count)

    def number(self, code: str, offset: int) -> int:
        return struct.unpack(self.order + code, self.at(offset, struct.calcsize(self.order + code)))[0]

    def pages(self) -> list[int]:
        """Follow the chain of directories; return their offsets, at most one more than the limit."""
        offsets: list[int] = []
        offset = self.number(self.word, 8 if self.big else 4)
        while offset and len(offsets) <= _MAX_PAGES:
            if offset in offsets:
                raise TifError(self.path, "loop", "has a chain of pages that forms a loop", RESAVE)
            offsets.append(offset)
            entries = self.number(self.count, offset)
            if entries > 4096:
                raise TifError(self.path, "unreadable", f"has a page that declares {entries} tags", COPY)
            offset = self.number(self.word, offset + self.count_bytes + entries * self.entry_bytes)
        return offsets

    def tags(self, page: int) -> dict[int, tuple]:
        tags = {tag: self._values(*entry) for tag, *entry in self._entries(page) if tag in _READ_TAGS}
        return {tag: values for tag, values in tags.items() if values}

    def _entries(self, page: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield (tag, type, count, offset of the values, their bytes) for each entry of a directory."""
        start = page + self.count_bytes
        table = self.at(start, self.number(self.count, page) * self.entry_bytes)
        for entry in range(0, len(table), self.entry_bytes):
            tag, kind, count = struct.unpack_from(self.order + self.entry, table, entry)
            size = _TYPE_BYTES.get(kind, 0) * count
            offset = start + entry + self.entry_bytes - self.inline_bytes
            if size > self.inline_bytes:
                offset = self.number(self.word, offset)
                if offset + size > self.size:
                    what = f"is truncated: tag {tag} is at {offset} to {offset + size} of {self.size} bytes"
                    raise TifError(self.path, "truncated", what, COPY)
            yield tag, kind, count, offset, size

    def _values(self, kind: int, count: int, offset: int, size: int) -> tuple:
        if count > _MAX_SEGMENTS:
            return ()
        if kind in _INTEGERS:
            return struct.unpack(f"{self.order}{count}{_INTEGERS[kind]}", self.at(offset, size))
        if kind == _RATIONAL:
            numbers = struct.unpack(f"{self.order}{2 * count}I", self.at(offset, size))
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            return tuple(numerator / denominator if denominator else 0.0 for numerator, denominator in pairs)
        return ()
