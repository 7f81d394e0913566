"""Statements of a TIF file about its pixels: sizes, stacks, and values that need a conversion."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pti.data.tif import TifError, inspect, read

PIXELS = np.arange(48 * 32, dtype=np.uint16).reshape(48, 32)
PER_CM = {"resolution": (1 / 0.03, 1 / 0.03), "resolutionunit": "CENTIMETER"}  # pixels of 0.3 mm


def written(path: Path, *, pixels: np.ndarray = PIXELS, **options: Any) -> Path:
    """Write a file with tifffile as one grey image."""
    tifffile.imwrite(path / "a.tif", pixels, photometric=options.pop("photometric", "minisblack"), **options)
    return path / "a.tif"


def fiji(path: Path, items: str, per_unit: float = 1.0, unit: str | None = None, down: float = 1.0) -> Path:
    """Write a file with a description and resolution as Fiji does."""
    description = f"ImageJ=1.54f\n{items}\n".encode("latin-1")
    resolution = (per_unit, per_unit * down)
    return written(
        path, description=description, resolution=resolution, resolutionunit=unit or "NONE", metadata=None
    )


def refuse(path: Path, fault: str, *words: str) -> None:
    """Expect the same refusal from reading a header and from reading the image."""
    for function in (inspect, read):
        with pytest.raises(TifError) as caught:
            function(path)
        assert caught.value.fault == fault
        for word in (*words, caught.value.fix):
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [
        *(("mm", 1 / 0.3), ("cm", 1 / 0.03), ("inch", 25.4 / 0.3), ("nm", 1 / 300_000)),
        *((name, 1 / 300) for name in ("um", "micron", "µm", "\\u00B5m", "microns")),
    ],
)
def test_pixel_sizes_of_fiji(tmp_path: Path, unit: str, per_unit: float) -> None:
    path = fiji(tmp_path, f"images=1\nunit={unit}\nmin=0.0", per_unit)
    assert inspect(path).pixel_mm == pytest.approx(0.3, rel=1e-3)
    assert read(path).pixel_mm == inspect(path).pixel_mm


def test_imagej_files_of_tifffile(tmp_path: Path) -> None:
    path = written(tmp_path, imagej=True, resolution=(5, 5), resolutionunit="NONE", metadata={"unit": "mm"})
    assert inspect(path).pixel_mm == pytest.approx(0.2)
    assert np.array_equal(read(path).pixels, PIXELS)


@pytest.mark.parametrize("items", ["images=1", "images=1\nunit=pixel", "unit=au", "images=many\nunit="])
def test_fiji_without_a_unit_states_no_size(tmp_path: Path, items: str) -> None:
    assert inspect(fiji(tmp_path, items, 3.0)).pixel_mm is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 300, "PhysicalSizeY": 300}, 0.3),  # µm is OME's default
        ({"PhysicalSizeX": 300, "PhysicalSizeXUnit": "µm"}, 0.3),
        ({"PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 300.0}, 0.3),
        ({"PhysicalSizeX": 0.03, "PhysicalSizeXUnit": "cm"}, 0.3),
        ({"PhysicalSizeX": 3, "PhysicalSizeXUnit": "pixel"}, None),
        ({}, None),
    ],
)
def test_physical_sizes_of_ome(tmp_path: Path, metadata: dict, expected: float | None) -> None:
    path = written(tmp_path, ome=True, metadata={"axes": "YX", **metadata})
    assert inspect(path).pixel_mm == (None if expected is None else pytest.approx(expected))
    assert np.array_equal(read(path).pixels, PIXELS)


def test_agreeing_statements_and_contradictions(tmp_path: Path) -> None:
    assert inspect(fiji(tmp_path, "unit=cm", 1 / 0.03, "CENTIMETER")).pixel_mm == pytest.approx(0.3, rel=1e-3)
    refuse(fiji(tmp_path, "unit=mm", 4.0, "CENTIMETER"), "pixels", "2.5 mm", "0.25 mm", "per cm", "per mm")
    ome = {"axes": "YX", "PhysicalSizeX": 150.0}
    refuse(written(tmp_path, ome=True, metadata=ome, **PER_CM), "pixels", "0.3 mm", "PhysicalSizeX 150")
    assert inspect(written(tmp_path, ome=True, metadata=ome | {"PhysicalSizeX": 300.0}, **PER_CM)).pixel_mm


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    refuse(fiji(tmp_path, "unit=mm", 4.0, down=2.0), "pixels", "not square")
    refuse(fiji(tmp_path, "unit=mm\nyunit=cm", 4.0), "pixels", "not square")
    ome = {"axes": "YX", "PhysicalSizeX": 150.0, "PhysicalSizeY": 200.0}
    refuse(written(tmp_path, ome=True, metadata=ome), "pixels", "not square")


@pytest.mark.parametrize("per_cm", [1e6, 1e9, 4e9, 0.1])
def test_incredible_resolutions(tmp_path: Path, per_cm: float) -> None:
    path = written(tmp_path, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    refuse(path, "pixels", f"XResolution {per_cm:g} per cm", "0.001 to 10 mm", "data.pixel_mm")


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "abc", "1e-300"])
@pytest.mark.parametrize("axis", "XY")
def test_incredible_physical_sizes(tmp_path: Path, size: str, axis: str) -> None:
    sizes = {"X": "300", "Y": "300", axis: size}
    attributes = " ".join(f'PhysicalSize{name}="{value}"' for name, value in sizes.items())
    text = f'<?xml version="1.0"?><OME><Image><Pixels {attributes}/></Image></OME>'
    refuse(written(tmp_path, description=text, metadata=None), "pixels", "expected 0.001 to 10 mm")


def test_stacks_behind_one_directory(tmp_path: Path) -> None:
    stack = np.zeros((5, 48, 32), np.uint16)
    refuse(written(tmp_path, pixels=stack, imagej=True), "pages", "5")
    refuse(written(tmp_path, pixels=stack, truncate=True), "pages", "stack of 5 slices")
    refuse(written(tmp_path, pixels=stack, truncate=True, description="mine"), "pages", "stack of 5 slices")
    refuse(written(tmp_path, description="shape=(5, 48, 32)", metadata=None), "pages", "stack of 5 slices")
    for text in (
        '{"truncated": true, "shape": [5, 48, 32]}',  # by older versions of tifffile
        '{"axes": "ZYX", "roi": {"shape": [1]}, "shape": [5, 48, 32]}',
        '{"shape": [5, 48, 32',
        '{"shape": [5, 48, 32]} and more',
    ):
        refuse(written(tmp_path, description=text, metadata=None), "pages", "stack of 5 slices")
    for text in ('{"roi": {"shape": [5, 48, 32]}}', '{"shape": "5"}', '{"shape": [5', "[" * 9999 + '"shape"'):
        assert inspect(written(tmp_path, description=text, metadata=None)).shape == (48, 32)
    huge = f'{{"axes": "", "shape": [{"9" * 4000}, {"9" * 4000}]}}'  # too long a number to be printed
    refuse(written(tmp_path, description=huge, metadata=None), "pages", "stack of")
    refuse(fiji(tmp_path, "images=5\nslices=5"), "pages", "stack of 5 slices")
    assert inspect(written(tmp_path, pixels=stack[:1])).shape == (48, 32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photometric": "miniswhite"}, "MinIsWhite"),
        *(({"extratags": [(274, 3, 1, value, True)]}, f"Orientation {value}") for value in range(2, 9)),
        ({"subfiletype": 1}, "NewSubfileType 1"),
        ({"extratags": [(42113, 2, 6, "-9999", True)]}, "GDAL_NODATA"),
        ({"extratags": [(33550, 12, 3, (0.3, 0.3, 0.0), True)]}, "ModelPixelScale 0.3"),
        ({"description": "ImageJ=1.54f\ncf=0\nc0=-32768.0\nc1=1.0\n"}, "c0 = -32768, c1 = 1"),
        ({"description": "ImageJ=1.54f\ncf=8\nc0=1\nc1=1\n"}, "function 8"),
        ({"extratags": [(42112, 2, None, '<Item name="s" role="scale">0.1</Item>', True)]}, "scale 0.1"),
        ({"extratags": [(42112, 2, None, '<Item role="offset" sample="0">-9</Item>', True)]}, "offset -9"),
    ],
)
def test_pixels_that_need_a_conversion_are_refused(tmp_path: Path, options: dict, words: str) -> None:
    refuse(written(tmp_path, metadata=None, **options), "meaning", words)


def test_reversed_bits_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, extratags=[(65266, 3, 1, 2, True)])  # tifffile refuses to write FillOrder, 266
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<HHI", 65266, 3, 1), struct.pack("<HHI", 266, 3, 1))
    )
    refuse(path, "meaning", "FillOrder 2")


@pytest.mark.parametrize(
    "options",
    [
        {"extratags": [(274, 3, 1, 1, True)]},
        {"extratags": [(42113, 2, 2, "0", True)]},
        {
            "extratags": [(33550, 12, 3, (0.3, 0.3, 0.0), True)],
            "resolution": (50, 50),
            "resolutionunit": "CENTIMETER",
        },
        {"extratags": [(42113, 2, 4, "nan", True)]},
        {"extratags": [(42112, 2, None, '<Item role="scale">1</Item><Item role="offset">0</Item>', True)]},
        {"description": "ImageJ=1.54f\nimages=1\ncf=0\nc0=0\nc1=1.0\nmin=3.0\nmax=9.0\n"},
        {"planarconfig": "separate"},
        {"subfiletype": 2},
        {"byteorder": ">", "bigtiff": True},
    ],
)
def test_statements_that_change_nothing_are_accepted(tmp_path: Path, options: dict) -> None:
    path = written(tmp_path, metadata=None, **options)
    assert np.array_equal(read(path).pixels, PIXELS)
    assert np.array_equal(tifffile.imread(path), PIXELS)


def test_reduced_copies_in_subifds_are_ignored(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PIXELS, subifds=1, photometric="minisblack")
        file.write(PIXELS[::2, ::2], subfiletype=1, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "a.tif").pixels, PIXELS)


@pytest.mark.parametrize(
    "text",
    [
        *("ImageJ=1\na=" + " " * 10**6 + "x", "ImageJ=" + "a" * 10**6, "<OME" + "<Pixels " * 130_000),
        *("<OME><Pixels " + "a" * 10**6, "<OME><Pixels " + 'PhysicalSizeX="' * 60_000 + ">"),
        *('role="scale">' * 75_000, '{"shape": [' + "9, " * 300_000, "shape=(" + "9" * 10**6),
    ],
    ids=range(8),
)
@pytest.mark.timeout(30)
def test_hostile_texts_are_ignored_or_refused_without_a_hang(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, description=text, metadata=None)
    header, fault = None, None
    try:
        header = inspect(path)
    except TifError as error:
        fault = error.fault
    if header is None:
        assert fault in ("pages", "pixels", "meaning")
    else:
        assert header.shape == PIXELS.shape
        assert header.pixel_mm is None
