"""Reading of single grey images in other formats than TIF: PNG, JPEG, and DICOM with the extra ``dicom``.

Sizes and colours are checked before anything is decoded. PNG and JPEG state no usable pixel size: their dots
per inch are those of a screen. A DICOM file states it as Pixel Spacing.
"""

import importlib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pti.common.errors import DataError
from pti.data.tif import TifImage
from pti.data.tif.checks import MAX_SIZE, PIXEL_MM, PIXEL_TOLERANCE

RASTER, DICOM = (".png", ".jpg", ".jpeg"), (".dcm", ".dicom")
SUFFIXES = (*RASTER, *DICOM)
"""Endings of the files that `read_other` reads, in lower case."""

_GREY = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.int32}
"""Pillow's modes of grey images, and the type of their pixels."""
_ORIENTATION = 274
_AS_GREY = "Save it as a grey image; as TIF, it can also hold its pixel size."


class FormatError(DataError):
    """An image that can't be used; the message names the file, what was found and the fix."""

    def __init__(self, path: Path, what: str, fix: str) -> None:
        super().__init__(f"{path}: {what}. {fix}")


def read_other(path: Path) -> TifImage:
    """Read a PNG, JPEG or DICOM file.

    Returns:
        Pixels (H, W) float32, as stored; of a DICOM file, rescaled (Rescale Slope and Intercept) with padding
        set to 0. The pixel size is None for PNG and JPEG.

    Raises:
        FormatError: It is in colour, a volume or a sequence, too large, inverted, rotated, damaged, or needs
            a package that is not installed.
    """
    return _read_dicom(path) if path.suffix.lower() in DICOM else _read_raster(path)


def _read_raster(path: Path) -> TifImage:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _check_size(path, image.height, image.width)
                if image.mode not in _GREY:
                    found = "a palette" if image.mode == "P" else f"colour or transparency ({image.mode})"
                    raise FormatError(path, f"found {found}, expected one grey channel", _AS_GREY)
                if image.getexif().get(_ORIENTATION, 1) != 1:
                    raise FormatError(
                        path, "its EXIF data say that it is rotated or mirrored", "Save it upright."
                    )
                stored = np.asarray(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise FormatError(path, f"can't be read as PNG or JPEG ({error})", "Export it again.") from error
    return TifImage(stored.astype(np.float32), None, np.dtype(stored.dtype).name)


def _read_dicom(path: Path) -> TifImage:
    if find_spec("pydicom") is None:
        raise FormatError(
            path, "DICOM needs the package pydicom", "pip install 'pti[dicom]', or save it as TIF."
        )
    pydicom: Any = importlib.import_module("pydicom")
    try:
        file = pydicom.dcmread(path)
        found = _dicom_fault(path, file)
        stored = None if found else np.asarray(file.pixel_array)
    except FormatError:
        raise
    except Exception as error:  # of pydicom and of any decoder
        what = f"can't be read as DICOM ({' '.join(str(error).split())[:200]})"
        raise FormatError(path, what, "Export it again, uncompressed, or as TIF.") from error
    if found or stored is None:
        raise FormatError(path, *found)
    pixels = stored * float(file.get("RescaleSlope") or 1) + float(file.get("RescaleIntercept") or 0)
    padding = file.get("PixelPaddingValue")
    if padding is not None:
        pixels = np.where(stored == int(padding), 0.0, pixels)
    spacing = file.get("PixelSpacing")
    pixel_mm = float(spacing[0]) if spacing else None
    return TifImage(pixels.astype(np.float32), pixel_mm, np.dtype(stored.dtype).name)


def _dicom_fault(path: Path, file: Any) -> tuple[str, str] | tuple[()]:
    """Return what is wrong with a DICOM header, and the fix; empty if it is a single grey image."""
    if "PixelData" not in file:
        return "contains no pixels", "Export the image itself."
    _check_size(path, int(file.Rows), int(file.Columns))
    frames, channels = int(file.get("NumberOfFrames") or 1), int(file.get("SamplesPerPixel", 1))
    if frames != 1:
        return f"is a volume or a sequence of {frames} images, expected one", "Export single cross-sections."
    if channels != 1 or file.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return f"found colour ({file.PhotometricInterpretation}), expected one grey channel", _AS_GREY
    if file.PhotometricInterpretation == "MONOCHROME1":
        return "shows 0 as white (MONOCHROME1)", "Invert it, and save it as MONOCHROME2."
    spacing = [float(edge) for edge in file.get("PixelSpacing") or ()]
    if spacing and not all(PIXEL_MM[0] <= edge <= PIXEL_MM[1] for edge in spacing):
        return (
            f"states pixels of {spacing} mm",
            f"Correct its Pixel Spacing: {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm.",
        )
    if spacing and abs(spacing[0] / spacing[-1] - 1) > PIXEL_TOLERANCE:
        return f"has pixels that are not square ({spacing} mm)", "Resample it to square pixels."
    return ()


def _check_size(path: Path, height: int, width: int) -> None:
    if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE):
        what = f"declares {height} x {width} pixels; the limit is {MAX_SIZE} x {MAX_SIZE}"
        raise FormatError(path, what, "Crop or reduce the image.")
