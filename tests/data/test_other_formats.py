"""Single grey images in other formats than TIF: values, pixel sizes, and the reason of each refusal."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pti.data.other_formats import FormatError, read_other

needs_pydicom = pytest.mark.skipif(
    importlib.util.find_spec("pydicom") is None, reason="the extra dicom is not installed"
)
GREY = np.arange(20 * 16, dtype=np.uint8).reshape(20, 16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_its_values(tmp_path: Path, dtype: type):
    stored = (GREY.astype(dtype) * (255 if dtype is np.uint16 else 1)).astype(dtype)
    Image.fromarray(stored).save(tmp_path / "a.png", dpi=(72, 72))
    image = read_other(tmp_path / "a.png")
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, stored)
    assert image.pixel_mm is None  # dots per inch of a screen do not state a pixel size


def test_jpeg(tmp_path: Path):
    Image.fromarray(np.full((20, 16), 100, np.uint8)).save(tmp_path / "a.JPG")
    assert np.abs(read_other(tmp_path / "a.JPG").pixels - 100).max() <= 1


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(GREY).save(path, exif=exif)


def colour(mode: str) -> Any:
    return lambda path: Image.fromarray(GREY).convert(mode).save(path)


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (colour("RGB"), "RGB"),
        (colour("LA"), "transparency"),
        (colour("P"), "palette"),
        (rotated, "rotated"),
        (lambda path: Image.new("L", (4097, 20)).save(path), "4097"),
        (lambda path: path.write_bytes(b""), "can't be read"),
        (lambda path: path.write_text("no image"), "can't be read"),
        (lambda path: Image.fromarray(GREY).save(path, "GIF"), "can't be read"),
    ],
)
def test_what_is_not_a_grey_image_is_refused(tmp_path: Path, write: Any, found: str):
    write(tmp_path / "a.png")
    with pytest.raises(FormatError, match=rf"a\.png: .*{found}"):
        read_other(tmp_path / "a.png")


def test_a_damaged_png_is_refused(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with pytest.raises(FormatError, match="can't be read"):
        read_other(tmp_path / "a.png")


def dicom(path: Path, stored: np.ndarray = GREY, **elements: Any) -> Path:
    """Write a DICOM file; an element of None is left out."""
    dataset: Any = importlib.import_module("pydicom.dataset")
    uid: Any = importlib.import_module("pydicom.uid")
    file = dataset.Dataset()
    file.file_meta = dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    bits = 8 * stored.dtype.itemsize
    defaults = {
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelSpacing": [0.2, 0.2],
        "SOPClassUID": uid.SecondaryCaptureImageStorage,
        "SOPInstanceUID": uid.generate_uid(),
        "PixelData": stored.tobytes(),
    }
    for name, value in (defaults | elements).items():
        if value is not None:
            setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


@needs_pydicom
def test_dicom_is_rescaled_and_states_its_pixel_size(tmp_path: Path):
    stored = GREY.astype(np.int16) - 100
    elements = {"RescaleSlope": 2, "RescaleIntercept": 5, "PixelPaddingValue": -100}
    image = read_other(dicom(tmp_path / "a.dcm", stored, **elements))
    assert np.array_equal(image.pixels, np.where(stored == -100, 0, 2.0 * stored + 5))
    assert image.pixel_mm == 0.2
    assert read_other(dicom(tmp_path / "b.dcm", PixelSpacing=None)).pixel_mm is None


@needs_pydicom
@pytest.mark.parametrize(
    ("elements", "found"),
    [
        ({"NumberOfFrames": 2, "PixelData": GREY.tobytes() * 2}, "sequence of 2 images"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "colour"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "0 as white"),
        ({"PixelSpacing": [0.2, 0.3]}, "not square"),
        ({"PixelSpacing": [20.0, 20.0]}, "Correct its Pixel Spacing"),
        ({"Rows": 5000}, "5000 x 16 pixels; the limit"),
        ({"PixelData": None}, "no pixels"),
        ({"PixelData": GREY.tobytes()[:100]}, "can't be read as DICOM"),
    ],
)
def test_dicom_that_is_not_one_grey_image_is_refused(tmp_path: Path, elements: dict[str, Any], found: str):
    with pytest.raises(FormatError, match=found):
        read_other(dicom(tmp_path / "a.dcm", **elements))


@needs_pydicom
def test_a_file_that_only_claims_to_be_dicom(tmp_path: Path):
    (tmp_path / "a.dcm").write_text("no image")
    with pytest.raises(FormatError, match="can't be read as DICOM"):
        read_other(tmp_path / "a.dcm")


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pti.data.other_formats.find_spec", lambda name: None)
    with pytest.raises(FormatError, match=r"pip install 'pti\[dicom\]'"):
        read_other(tmp_path / "a.dcm")
