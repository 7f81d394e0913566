"""Reading of a TIF file's directory: every access is checked against the file's size.

A TIF file declares its dimensions, the positions of its pixels and the start of its next page. Any of these
may be wrong, by accident (a truncated copy) or on purpose. The few tags that matter are therefore read here
with `struct`, and no number in the file determines how much memory or time reading takes.

Tags and types follow TIFF revision 6.0 (Adobe, 1992) and the BigTIFF design.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from tifffile import TIFF

from pti.data.tif.directory import COPY, RESAVE, Directory, Tag, TifError

_MAX_PAGES = 1000
_MAX_SEGMENTS = 65536
_MAX_TEXT = 2**20  # bytes
_RATIONAL, _DOUBLE = 5, 12
_INTEGERS = (1, 3, 4, 16)  # unsigned, of 1, 2, 4 and 8 bytes
_MAGIC = {b"\x89PNG": "is a PNG image", b"\xff\xd8\xff": "is a JPEG image", b"PK\x03\x04": "is a ZIP archive"}
_TEXTS = (Tag.DESCRIPTION, Tag.GDAL_METADATA, Tag.GDAL_NODATA)
_FRACTIONS = (Tag.X_RESOLUTION, Tag.Y_RESOLUTION, Tag.METAMORPH_PLANES)
_READ_TAGS = frozenset(Tag) - frozenset(_TEXTS)


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
        self.head = head = file.read(4096)  # usually contains everything: one system call
        if not head:
            raise TifError(path, "empty", "is empty (0 bytes)", COPY)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(self.order + "H", head[2:4])[0] if self.order and len(head) >= 4 else 0
        if version not in (42, 43):
            kinds = (kind for magic, kind in _MAGIC.items() if head.startswith(magic))
            what = f"is not a TIF file: it {next(kinds, f'starts with {head[:8]!r}')}"
            raise TifError(path, "not_tif", what, "Convert it to TIF, or remove it.")
        # BigTIFF (version 43) has wider offsets and counts.
        self.word, self.count = "QQ" if version == 43 else "IH"
        self.word_bytes, self.count_bytes = struct.calcsize(self.word), struct.calcsize(self.count)
        self.entry = f"{self.order}HH2{self.word}"  # tag, type, count, and the values or their offset
        self.entry_bytes = struct.calcsize(self.entry)

    def at(self, offset: int, count: int) -> bytes:
        if offset + count > self.size:
            what = f"is truncated: bytes {offset} to {offset + count} are needed, the file has {self.size}"
            raise TifError(self.path, "truncated", what, COPY)
        if offset + count <= len(self.head):
            return self.head[offset : offset + count]
        self.file.seek(offset)
        return self.file.read(count)

    def numbers(self, code: str, offset: int) -> tuple:
        return struct.unpack(self.order + code, self.at(offset, struct.calcsize(self.order + code)))

    def pages(self) -> list[int]:
        """Follow the chain of directories; return their offsets, at most one more than the limit."""
        offsets: list[int] = []
        (offset,) = self.numbers(self.word, self.word_bytes)
        while offset and len(offsets) <= _MAX_PAGES:
            if offset in offsets:
                raise TifError(self.path, "loop", "has a chain of pages that forms a loop", RESAVE)
            offsets.append(offset)
            (entries,) = self.numbers(self.count, offset)
            if entries > 4096:
                raise TifError(self.path, "unreadable", f"has a page that declares {entries} tags", COPY)
            (offset,) = self.numbers(self.word, offset + self.count_bytes + entries * self.entry_bytes)
        return offsets

    def tags(self, page: int) -> dict[int, tuple]:
        """Read the tags that matter; check that the values of all others lie within the file."""
        tags: dict[int, tuple] = {}
        end = page + self.count_bytes
        table = self.at(end, self.numbers(self.count, page)[0] * self.entry_bytes)
        for tag, kind, count, offset in struct.iter_unpack(self.entry, table):
            end += self.entry_bytes
            repeat, code = TIFF.DATA_FORMATS.get(kind, "0B")
            size = struct.calcsize(f"<{repeat}{code}") * count
            if size <= self.word_bytes:
                offset = end - self.word_bytes
            if offset + size > self.size:
                what = f"is truncated: tag {tag} is at {offset} to {offset + size} of {self.size} bytes"
                raise TifError(self.path, "truncated", what, COPY)
            kinds = (*_INTEGERS, _RATIONAL) if tag in _FRACTIONS else _INTEGERS
            kinds = (_DOUBLE,) if tag == Tag.MODEL_PIXEL_SCALE else kinds
            if tag in _TEXTS and kind in (1, 2) and 0 < count <= _MAX_TEXT:
                # tifffile writes two descriptions.
                tags[tag] = (*tags.get(tag, ())[:1], self.at(offset, count))
            elif tag in _READ_TAGS and kind in kinds and 0 < count <= _MAX_SEGMENTS:
                numbers = self.numbers(f"{int(repeat) * count}{code}", offset)
                pairs = zip(numbers[::2], numbers[1::2], strict=False)
                tags[tag] = tuple(a / b if b else 0.0 for a, b in pairs) if kind == _RATIONAL else numbers
        return tags
