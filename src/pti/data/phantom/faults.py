"""Deliberately broken files of the phantom, one pair for each fault, to try `check` on."""

import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from pti.data import tif
from pti.data.phantom.pairs import PhantomPair, write_pair

SHIFT = 6 / 256
"""Shift of the shifted pair as a fraction of the image's width: 6 pixels of 256."""


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
        names = [path.relative_to(folder).as_posix() for path in paths]
        rows.extend({"file": name, "fault": fault, "what": what} for name in names)

    for (fault, what), break_file in _FILE_FAULTS.items():
        # Alternate between dente and edente, so that both are tried.
        path = write_pair(folder, next(healthy))[len(rows) % 2]
        break_file(path)
        add_rows([path], fault, what)
    for (fault, what), break_pair in _PAIR_FAULTS.items():
        paths = write_pair(folder, next(healthy))
        break_pair(*paths)
        add_rows([path for path in paths if path.exists()], fault, what)
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


def _grey(path: Path) -> np.ndarray:
    pixels = tif.read(path).pixels
    return (pixels / max(float(pixels.max()), 1) * 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    tifffile.imwrite(path, pixels, metadata=None, software="pti", **options)


def _declare_false_size(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["ImageLength"].overwrite(30_000)


def _save_bomb(path: Path) -> None:
    _save(path, np.zeros((3000, 3000), np.float32), compression="zlib", rowsperstrip=3000)


def _close_loop(path: Path) -> None:
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    path.write_bytes(data)


def _insert_nan(path: Path) -> None:
    image = tif.read(path)
    middle = image.pixels.shape[0] // 2
    image.pixels[middle, middle : middle + 3] = np.nan
    tif.write(path, image.pixels, image.pixel_mm)


def _save_pages(path: Path) -> None:
    _save(path, np.stack([tif.read(path).pixels] * 3), photometric="minisblack")


def _replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.tif")


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _exchange(one: Path, other: Path) -> None:
    temporary = one.with_name("temporary")
    os.replace(one, temporary)
    os.replace(other, one)
    os.replace(temporary, other)


def _shift(_: Path, edente: Path) -> None:
    image = tif.read(edente)
    columns = max(1, round(SHIFT * image.pixels.shape[1]))
    tif.write(edente, np.roll(image.pixels, columns, axis=1), image.pixel_mm)


_FILE_FAULTS: dict[tuple[str, str], Callable[[Path], Any]] = {
    ("empty", "a file of zero bytes"): lambda path: path.write_bytes(b""),
    ("not_tif", "a text file named .tif"): lambda path: path.write_text("slice;site;year\n1000;HA;2021\n"),
    ("not_tif", "a PNG file named .tif"): lambda path: Image.fromarray(_grey(path)).save(path, "PNG"),
    ("truncated", "the second half is missing"): lambda path: os.truncate(path, path.stat().st_size // 2),
    ("truncated", "the last byte is missing"): lambda path: os.truncate(path, path.stat().st_size - 1),
    ("header_only", "a header without an image"): lambda path: path.write_bytes(b"II*\0\0\0\0\0"),
    ("too_large", "declares 30000 rows"): _declare_false_size,
    ("bomb", "a few kilobytes that decompress to 36 megabytes"): _save_bomb,
    ("loop", "a TIF directory that points to itself"): _close_loop,
    ("non_finite", "three pixels are NaN"): _insert_nan,
    ("dtype", "complex pixels"): lambda path: _save(path, tif.read(path).pixels.astype(np.complex64)),
    ("channels", "a colour image"): lambda path: _save(path, np.dstack([_grey(path)] * 3), photometric="rgb"),
    ("pages", "three pages"): _save_pages,
    ("unreadable", "a dangling link"): _replace_by_link,
    ("unreadable", "a folder named .tif"): _replace_by_folder,
}
_PAIR_FAULTS: dict[tuple[str, str], Callable[[Path, Path], None]] = {
    ("missing_partner", "no edente image"): lambda _, edente: edente.unlink(),
    ("exchanged", "dente and edente in each other's folder"): _exchange,
    ("shifted", "edente shifted to the right"): _shift,
}
