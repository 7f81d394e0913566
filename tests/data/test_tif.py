"""Reading of TIF files written by pti and by tifffile."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.tif_bytes import header
from pti.data.tif import inspect, read, write

PIXELS = np.arange(48 * 32, dtype=np.float32).reshape(48, 32) / 7 - 3


@pytest.mark.parametrize("pixel_mm", [0.15, 0.0123456, 1.0, 0.3333333])
def test_round_trip(tmp_path: Path, pixel_mm: float) -> None:
    write(tmp_path / "a.tif", PIXELS, pixel_mm)
    image, head = read(tmp_path / "a.tif"), inspect(tmp_path / "a.tif")
    assert np.array_equal(image.pixels, PIXELS)
    assert image.pixels.dtype == np.float32
    assert image.stored_dtype == "float32"
    assert image.pixel_mm == pytest.approx(pixel_mm, rel=1e-6)
    assert (head.shape, head.dtype) == ((48, 32), np.dtype("float32"))
    with tifffile.TiffFile(tmp_path / "a.tif") as stored:
        assert stored.pages.first.compression == tifffile.COMPRESSION.NONE
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), PIXELS)
    assert os.listdir(tmp_path) == ["a.tif"]


def test_equal_pixels_make_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.tif", PIXELS, 0.15)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert read(tmp_path / "a.tif").pixel_mm is not None
    write(tmp_path / "a.tif", PIXELS)
    assert read(tmp_path / "a.tif").pixel_mm is None
    with pytest.raises(ValueError, match="one image"):
        write(tmp_path / "c.tif", PIXELS[None])
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int16"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib"},
        {"compression": "zlib", "rowsperstrip": 7, "byteorder": ">"},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "predictor": 2},
        {"compression": "zlib", "predictor": 2, "tile": (32, 32), "byteorder": ">"},
        {"compression": "lzma", "rowsperstrip": 7},
        {"compression": "lzma", "predictor": 2, "tile": (16, 32)},
        {"resolution": (254, 254), "resolutionunit": "INCH"},
        {"description": "x" * 9000},
    ],
    ids=str,
)
def test_reads_what_tifffile_writes(tmp_path: Path, dtype: str, options: dict) -> None:
    pixels = (PIXELS + 3).astype(dtype)
    if "predictor" in options and dtype.startswith("float"):
        pytest.skip("tifffile itself needs imagecodecs to write this")
    tifffile.imwrite(tmp_path / "a.tiff", pixels, **options)
    image = read(tmp_path / "a.tiff")
    assert np.array_equal(image.pixels, pixels.astype(np.float32))
    assert image.stored_dtype == dtype
    assert inspect(tmp_path / "a.tiff").pixel_mm == (pytest.approx(0.1) if "resolution" in options else None)


def test_packbits(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(
        header(4, 3, b"\x03\0\0\x80?" + b"\x80" + b"\xd9\0" + b"\x03\0\0\0@", compression=32773)
    )
    pixels = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    assert tifffile.imread(tmp_path / "a.tif").tolist() == pixels
    assert read(tmp_path / "a.tif").pixels.tolist() == pixels


def test_differences_of_floating_point_numbers(tmp_path: Path) -> None:
    words = np.diff(PIXELS.view("u4"), axis=1, prepend=np.uint32(0))
    planes = PIXELS.astype(">f4").view(np.uint8).reshape(48, 32, 4).transpose(0, 2, 1).reshape(48, 128)
    rows = np.diff(planes, axis=1, prepend=np.uint8(0))
    for predictor, differences in ((2, words), (3, rows)):
        content = zlib.compress(differences.tobytes())
        (tmp_path / "a.tif").write_bytes(header(32, 48, content, compression=8, predictor=predictor))
        assert np.array_equal(read(tmp_path / "a.tif").pixels, PIXELS)
