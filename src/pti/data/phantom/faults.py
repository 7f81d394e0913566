"""Deliberately broken files of the phantom, one pair for each fault, to try `check` on."""

import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from pti.data import tif
from pti.data.phantom.pairs import PhantomPair, write_pair

SHIFT = 6 / 256
"""Shift of the shifted pair as a fraction of the image's width: 6 pixels of 256."""

_HEIGHT_TAG = 257


def write_broken(folder: Path, original: str, healthy: Iterator[PhantomPair]) -> list[dict[str, str]]:
    """Add one pair for each fault of a file (the partner is sound) and for each fault of a pair.

    Args:
        folder: the data set, with ``dente`` and ``edente``.
        original: name of a sound pair, which is copied under another patient's name.
        healthy: drawn pairs of new patients.

    Returns:
        Rows of ``broken.csv``: ``file`` (relative to the folder), ``fault`` (short code as in
        `pti.data.checks.findings`) and ``what`` (description).
    """
    rows: list[dict[str, str]] = []

    def add_rows(paths: Sequence[Path], fault: str, what: str) -> None:
        rows.extend(
            {"file": path.relative_to(folder).as_posix(), "fault": fault, "what": what} for path in paths
        )

    for (fault, what), break_file in _FILE_FAULTS.items():
        # Alternate between dente and edente, so that both are tried.
        path = write_pair(folder, next(healthy))[len(rows) % 2]
        break_file(path)
        add_rows([path], fault, what)
    for (fault, what), break_pair in _PAIR_FAULTS.items():
        add_rows(break_pair(*write_pair(folder, next(healthy))), fault, what)
    one, other = write_pair(folder, next(healthy)), write_pair(folder, next(healthy))
    _exchange(one[1], other[1])
    add_rows(one + other, "swapped", "edente images of two patients swapped")
    copies = write_pair(folder, next(healthy))
    for path in copies:
        shutil.copyfile(path.with_name(f"{original}.tif"), path)
    add_rows(copies, "duplicate", f"copies of the images of {original}")
    nameless = write_pair(folder, replace(next(healthy), name="crosssection"))
    add_rows(nameless, "no_patient", "no patient in the name")
    return rows


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("slice;site;year\n1000;HA;2021\n", encoding="utf-8")


def _png(path: Path) -> None:
    Image.fromarray(_grey(tif.read(path).pixels)).save(path, "PNG")


def _grey(image: np.ndarray) -> np.ndarray:
    return (image / max(float(image.max()), 1) * 255).astype(np.uint8)


def _truncate_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _truncate_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _header_only(path: Path) -> None:
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 0))


def _false_size(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[_HEIGHT_TAG].overwrite(30_000)


def _bomb(path: Path) -> None:
    zeros = np.zeros((3000, 3000), np.float32)
    tifffile.imwrite(path, zeros, compression="zlib", rowsperstrip=3000, metadata=None, software="pti")


def _loop(path: Path) -> None:
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    path.write_bytes(data)


def _not_finite(path: Path) -> None:
    image = tif.read(path)
    pixels = image.pixels.copy()
    middle = pixels.shape[0] // 2
    pixels[middle, middle : middle + 3] = np.nan
    tif.write(path, pixels, image.pixel_mm)


def _colour(path: Path) -> None:
    image = tif.read(path).pixels
    colour = np.repeat(_grey(image)[..., None], 3, axis=2)
    tifffile.imwrite(path, colour, photometric="rgb", metadata=None, software="pti")


def _pages(path: Path) -> None:
    image = tif.read(path).pixels
    tifffile.imwrite(path, np.stack([image] * 3), photometric="minisblack", metadata=None, software="pti")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.tif")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _complex(path: Path) -> None:
    image = tif.read(path).pixels
    tifffile.imwrite(path, image.astype(np.complex64), metadata=None, software="pti")


def _missing(dente: Path, edente: Path) -> list[Path]:
    edente.unlink()
    return [dente]


def _exchange(dente: Path, edente: Path) -> list[Path]:
    temporary = dente.with_name("temporary")
    os.replace(dente, temporary)
    os.replace(edente, dente)
    os.replace(temporary, edente)
    return [dente, edente]


def _shift(dente: Path, edente: Path) -> list[Path]:
    image = tif.read(edente)
    columns = max(1, round(SHIFT * image.pixels.shape[1]))
    tif.write(edente, np.roll(image.pixels, columns, axis=1), image.pixel_mm)
    return [dente, edente]


_FILE_FAULTS: dict[tuple[str, str], Callable[[Path], None]] = {
    ("empty", "a file of zero bytes"): _empty,
    ("not_tif", "a text file named .tif"): _text,
    ("not_tif", "a PNG file named .tif"): _png,
    ("truncated", "the second half is missing"): _truncate_half,
    ("truncated", "the last byte is missing"): _truncate_byte,
    ("header_only", "a header without an image"): _header_only,
    ("too_large", "declares 30000 rows"): _false_size,
    ("bomb", "a few kilobytes that decompress to 36 megabytes"): _bomb,
    ("loop", "a TIF directory that points to itself"): _loop,
    ("non_finite", "three pixels are NaN"): _not_finite,
    ("dtype", "complex pixels"): _complex,
    ("channels", "a colour image"): _colour,
    ("pages", "three pages"): _pages,
    ("unreadable", "a dangling link"): _dangling,
    ("unreadable", "a folder named .tif"): _folder,
}
_PAIR_FAULTS: dict[tuple[str, str], Callable[[Path, Path], list[Path]]] = {
    ("missing_partner", "no edente image"): _missing,
    ("exchanged", "dente and edente in each other's folder"): _exchange,
    ("shifted", "edente shifted to the right"): _shift,
}
