"""Deliberately broken files, one pair for each fault, for trying `check`."""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pti.data import tif

SHIFT_SHARE = 6 / 256
"""Shift of the shifted pair, as a share of the image's width: 6 pixels of 256."""

_HEIGHT_TAG = 257


def write_broken(folder: Path, original: str, healthy: Iterator[Any]) -> list[dict[str, str]]:
    """Add one pair for each fault of a file (its partner is sound) or of a pair.

    Args:
        folder: the data set, with ``dente`` and ``edente``.
        original: name of a sound pair, to be copied under another patient's name.
        healthy: drawn pairs (`pti.data.phantom.PhantomPair`) of new patients.

    Returns:
        rows of ``broken.csv``: ``file`` (relative to the folder), ``fault`` (the short code of
        `pti.data.checks.findings`), ``what`` (in words).
    """
    rows: list[dict[str, str]] = []

    def listed(paths: list[Path], fault: str, what: str) -> None:
        rows.extend(
            {"file": path.relative_to(folder).as_posix(), "fault": fault, "what": what} for path in paths
        )

    for (fault, what), breaks in _FILE_FAULTS.items():
        # In turn on either side, so that both are tried.
        path = _sound(folder, next(healthy))[len(rows) % 2]
        breaks(path)
        listed([path], fault, what)
    for (fault, what), breaks_pair in _PAIR_FAULTS.items():
        listed(breaks_pair(*_sound(folder, next(healthy))), fault, what)
    one, other = _sound(folder, next(healthy)), _sound(folder, next(healthy))
    _exchange(one[1], other[1])
    listed(one + other, "swapped", "edente images of two patients exchanged")
    copies = _sound(folder, next(healthy))
    for path in copies:
        shutil.copyfile(path.with_name(f"{original}.tif"), path)
    listed(copies, "duplicate", f"the images of {original} under this name")
    listed(
        _sound(folder, replace(next(healthy), name="crosssection")), "no_patient", "the name holds no patient"
    )
    return rows


def _sound(folder: Path, pair: Any) -> list[Path]:
    """Write a pair as it is: the paths of dente and edente."""
    paths = [folder / name / f"{pair.name}.tif" for name in ("dente", "edente")]
    for path, image in zip(paths, (pair.dente, pair.edente), strict=True):
        tif.write(path, image, pair.truth["pixel_mm"])
    return paths


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("slice;site;year\n1000;HA;2021\n", encoding="utf-8")


def _png(path: Path) -> None:
    from matplotlib.image import imsave

    imsave(path, _grey(tif.read(path).pixels), cmap="gray", format="png")


def _grey(image: np.ndarray) -> np.ndarray:
    return (image / max(float(image.max()), 1) * 255).astype(np.uint8)


def _half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _one_byte_less(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _header_only(path: Path) -> None:
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 0))


def _lying_size(path: Path) -> None:
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
    between = dente.with_name("between")
    os.replace(dente, between)
    os.replace(edente, dente)
    os.replace(between, edente)
    return [dente, edente]


def _shift(dente: Path, edente: Path) -> list[Path]:
    image = tif.read(edente)
    columns = max(1, round(SHIFT_SHARE * image.pixels.shape[1]))
    tif.write(edente, np.roll(image.pixels, columns, axis=1), image.pixel_mm)
    return [dente, edente]


_FILE_FAULTS: dict[tuple[str, str], Callable[[Path], None]] = {
    ("empty", "a file of zero bytes"): _empty,
    ("not_tif", "a text named .tif"): _text,
    ("not_tif", "a PNG named .tif"): _png,
    ("truncated", "the second half is missing"): _half,
    ("truncated", "the last byte is missing"): _one_byte_less,
    ("header_only", "a header without an image"): _header_only,
    ("too_large", "declares 30000 rows"): _lying_size,
    ("bomb", "a few kilobytes that unpack to 36 megabytes"): _bomb,
    ("loop", "a directory that points to itself"): _loop,
    ("non_finite", "three pixels are NaN"): _not_finite,
    ("dtype", "complex pixels"): _complex,
    ("channels", "a colour image"): _colour,
    ("pages", "three pages"): _pages,
    ("unreadable", "a link to nothing"): _dangling,
    ("unreadable", "a folder named .tif"): _folder,
}
_PAIR_FAULTS: dict[tuple[str, str], Callable[[Path, Path], list[Path]]] = {
    ("missing_partner", "no edente image"): _missing,
    ("exchanged", "dente and edente in each other's folder"): _exchange,
    ("shifted", "edente moved to the side"): _shift,
}
