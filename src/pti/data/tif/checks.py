"""Checks of a TIF file before decoding: one grey image whose declared size fits the file's bytes."""

import math
from importlib.util import find_spec

from tifffile import COMPRESSION

from pti.data.tif.codecs import DECODERS
from pti.data.tif.description import calibration, images_in_one_page, number
from pti.data.tif.directory import COPY, RESAVE, Directory, Tag, TifError

MAX_SIZE = 4096
"""Longest edge in pixels: 4096 x 4096 float32 need 64 MB, more than any cross-section and still harmless."""

MAX_RATIO = 200
"""Decoded bytes per stored byte, for images of more than 16 MiB; a smaller one may be entirely background."""

PIXEL_MM = (0.001, 10.0)
"""Smallest and largest credible edge of a pixel in millimetres: a microscope's and a whole body's."""

PIXEL_TOLERANCE = 0.01
"""Relative difference that rounding explains: a tag stores pixels per unit as a fraction."""

STORED_DTYPES = ("float32", "float64", "uint8", "uint16", "int16")
"""All except float64 fit into float32 without loss; its rounding errors are below any scanner's noise."""

NO_COMPRESSION = 1
BUILT_IN = (NO_COMPRESSION, *DECODERS)
"""Compression schemes that need no other package."""


def check(directory: Directory) -> None:
    """Reject a file that can't be used, without decoding it.

    Raises:
        TifError: ``header_only``, ``too_large``, ``channels``, ``pages``, ``dtype``, ``pixels``, ``codec``,
            ``meaning``, ``truncated``, ``bomb`` or ``unreadable``.
    """
    path, (height, width) = directory.path, directory.shape
    if not height or not width or not {Tag.STRIP_OFFSETS, Tag.TILE_OFFSETS} & directory.tags.keys():
        raise TifError(path, "header_only", f"declares {height} x {width} pixels and contains none", COPY)
    if max(height, width) > MAX_SIZE:
        what = f"declares {height} x {width} pixels; the limit is {MAX_SIZE} x {MAX_SIZE}"
        raise TifError(path, "too_large", what, "Crop or reduce the image.")
    _check_samples(directory)
    _check_meaning(directory)
    _check_pixel_size(directory)
    _check_codec(directory)
    _check_extent(directory)


def _check_samples(directory: Directory) -> None:
    path, channels, depth = directory.path, directory.first(Tag.CHANNELS, 1), directory.first(Tag.DEPTH, 1)
    if channels != 1 or directory.first(Tag.PHOTOMETRIC, 1) not in (0, 1):
        kind = "is a colour image" if channels in (1, 3, 4) else f"contains {channels} channels"
        fix = "Save it as a grey-scale image."
        raise TifError(path, "channels", f"{kind}; expected one grey channel", fix)
    images, pixels = images_in_one_page(directory.text(Tag.DESCRIPTION))
    stacked = pixels // math.prod(directory.shape)
    slices = max(depth, images, stacked, len(directory.tags.get(Tag.METAMORPH_PLANES, ())))
    if slices != 1:
        fix = "Save each slice in a separate file."
        raise TifError(path, "pages", f"contains a stack of {slices} slices; expected one image", fix)
    if directory.dtype_name not in STORED_DTYPES:
        what = f"stores {directory.dtype_name}; expected {', '.join(STORED_DTYPES)}"
        raise TifError(path, "dtype", what, "Save it as float32.")


def _check_meaning(directory: Directory) -> None:
    """Reject pixels that a reader of raw values would misunderstand."""
    orientation, subfile = directory.first(Tag.ORIENTATION, 1), directory.first(Tag.SUBFILE, 0)
    missing = number(directory.text(Tag.GDAL_NODATA))
    function = calibration(directory.text(Tag.DESCRIPTION, Tag.GDAL_METADATA))
    if directory.first(Tag.PHOTOMETRIC, 1) == 0:
        what, fix = "shows 0 as white (MinIsWhite)", "Invert it, and save it as MinIsBlack."
    elif orientation != 1:
        what = f"must be rotated or mirrored to be upright (Orientation {orientation})"
        fix = "Save it upright, with Orientation 1."
    elif directory.first(Tag.FILL_ORDER, 1) != 1:
        what, fix = "stores the bits of each byte in reverse (FillOrder 2)", RESAVE
    elif subfile & 5:
        what, fix = f"is a thumbnail or a mask (NewSubfileType {subfile})", "Save the image itself."
    elif function:
        what = f"stores values that need a conversion ({function})"
        fix = "Save the converted values; in Fiji, choose Image > Type > 32-bit first."
    elif Tag.MODEL_PIXEL_SCALE in directory.tags and not directory.pixel_sizes:
        scale = directory.tags[Tag.MODEL_PIXEL_SCALE][0]
        what = f"states its pixel size in the unit of a map only (GeoTIFF's ModelPixelScale {scale:g})"
        fix = "State it in the resolution tag, in pixels per cm; or remove the tag and set data.pixel_mm."
    elif abs(missing) > 0:
        what, fix = f"marks missing pixels by {missing:g} (GDAL_NODATA)", "Set them to 0; remove the tag."
    else:
        return
    raise TifError(directory.path, "meaning", what, fix)


def _check_pixel_size(directory: Directory) -> None:
    """Reject pixels that are not square, incredibly small or large, or of two sizes."""
    sizes, (low, high) = directory.pixel_sizes, PIXEL_MM
    for x, y, source in sizes:
        if not all(low * 0.999 <= edge <= high * 1.001 for edge in (x, y)):
            what = f"has pixels of {x:.3g} × {y:.3g} mm ({source}); expected {low:g} to {high:g} mm"
            fix = "Correct its resolution tag or description, or remove it and set data.pixel_mm."
        elif abs(x / y - 1) > PIXEL_TOLERANCE:
            what = f"has pixels that are not square ({x:.4g} × {y:.4g} mm: {source})"
            fix = "Resample it to square pixels, or correct its resolution tag."
        elif abs(x / sizes[0].x - 1) > PIXEL_TOLERANCE:
            what = f"states two pixel sizes: {sizes[0].x:.4g} mm ({sizes[0].source}), {x:.4g} mm ({source})"
            fix = "Correct the wrong one, or remove it."
        else:
            continue
        raise TifError(directory.path, "pixels", what, fix)


def _check_codec(directory: Directory) -> None:
    compression, predictor = directory.compression, directory.first(Tag.PREDICTOR, 1)
    if predictor not in (1, 2, 3) or (predictor == 3 and directory.dtype.kind != "f"):
        raise TifError(directory.path, "codec", f"uses the unknown predictor {predictor}", RESAVE)
    if compression not in BUILT_IN and find_spec("imagecodecs") is None:
        names = {codec.value: codec.name for codec in COMPRESSION}
        name = names.get(compression, f"scheme {compression}")
        what = f"is compressed with {name}, which needs the package imagecodecs"
        raise TifError(directory.path, "codec", what, "pip install 'pti[codecs]', or save it uncompressed.")


def _check_extent(directory: Directory) -> None:
    """Compare the declared size with the bytes in the file."""
    path, segments = directory.path, directory.segments
    rows, columns = directory.segment_shape
    if not 0 < rows <= MAX_SIZE or not 0 < columns <= MAX_SIZE:
        raise TifError(path, "unreadable", f"has strips or tiles of {rows} x {columns} pixels", RESAVE)
    if len(segments) < directory.segment_count:
        what = f"lists {len(segments)} of the {directory.segment_count} strips or tiles that it needs"
        raise TifError(path, "truncated", what, COPY)
    end = max(offset + count for offset, count in segments)
    if end > directory.file_bytes:
        what = f"is truncated: its pixels end at byte {end}, the file ends at byte {directory.file_bytes}"
        raise TifError(path, "truncated", what, COPY)
    uncompressed = directory.compression == NO_COMPRESSION
    declared = sum(directory.segment_bytes(index) for index in range(len(segments)))
    stored = sum(count for _, count in segments)
    if uncompressed and stored < declared:
        height, width = directory.shape
        what = (
            f"declares {height} x {width} {directory.dtype} pixels ({declared} bytes), stores {stored} bytes"
        )
        raise TifError(path, "truncated", what, COPY)
    if declared > max(16 * 2**20, MAX_RATIO * stored):
        what = f"decompresses {stored} bytes to {declared}"
        raise TifError(path, "bomb", what, "Remove it; if it is intended, save it uncompressed.")
    if not uncompressed and stored > 2 * declared + 2**20:
        raise TifError(path, "bomb", f"stores {declared} bytes compressed to {stored}", RESAVE)
