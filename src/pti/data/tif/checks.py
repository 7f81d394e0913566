"""What a TIF file must be before it is decoded: one plain grey image that its bytes can hold."""

from importlib.util import find_spec

from pti.data.tif.directory import COPY, RESAVE, Directory, Tag, TifError

MAX_SIDE = 4096
"""Longest side in pixels. 4096 x 4096 float32 take 64 MB: far above a cross-section, far below trouble."""

MAX_RATIO = 200
"""Decoded bytes for each stored byte, where more than 16 MiB are decoded. Small images may be all empty."""

STORED_DTYPES = ("float32", "float64", "uint8", "uint16", "int16")
"""All but float64 fit into float32 without loss; what float64 loses is below any scanner's noise."""

NO_COMPRESSION, DEFLATE = 1, (8, 32946)
CODECS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "JPEG", 7: "JPEG", 8: "deflate"}
CODECS |= {
    32773: "PackBits",
    32946: "deflate",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "ZSTD",
}
MM_PER_UNIT = {2: 25.4, 3: 10.0}
"""Resolution units: inch and centimetre."""

_RATIO_FLOOR = 16 * 2**20
_FLOAT_PREDICTOR = 3


def check(directory: Directory) -> None:
    """Refuse what can't be used, without decoding.

    Raises:
        TifError: ``header_only``, ``too_large``, ``channels``, ``pages``, ``dtype``, ``pixels``, ``codec``,
            ``truncated``, ``bomb`` or ``unreadable``.
    """
    path, (height, width) = directory.path, directory.shape
    if (
        not height
        or not width
        or not (Tag.STRIP_OFFSETS in directory.tags or Tag.TILE_OFFSETS in directory.tags)
    ):
        what = f"declares {height} x {width} pixels and holds none"
        raise TifError(path, "header_only", what, COPY)
    if max(height, width) > MAX_SIDE:
        what = f"declares {height} x {width} pixels, the limit is {MAX_SIDE} x {MAX_SIDE}"
        raise TifError(path, "too_large", what, "Crop or reduce the image.")
    _check_samples(directory)
    _check_codec(directory)
    _check_extent(directory)


def _check_samples(directory: Directory) -> None:
    path, dtype = directory.path, directory.dtype
    channels, depth = directory.first(Tag.CHANNELS, 1), directory.first(Tag.DEPTH, 1)
    if channels != 1 or directory.first(Tag.PHOTOMETRIC, 1) not in (0, 1):
        kind = "is a colour image" if channels in (1, 3, 4) else f"holds {channels} channels"
        fix = "Save it as a grey-scale image."
        raise TifError(path, "channels", f"{kind}, one grey channel is expected", fix)
    if depth != 1:
        fix = "Save each slice as a file of its own."
        raise TifError(path, "pages", f"holds a volume of {depth} slices, one image is expected", fix)
    if dtype is None or dtype.name not in STORED_DTYPES:
        name = f"{directory.first(Tag.BITS, 1)} bits a pixel" if dtype is None else dtype.name
        raise TifError(
            path, "dtype", f"stores {name}, expected {', '.join(STORED_DTYPES)}", "Save it as float32."
        )
    across, down = (directory.tags.get(tag, (0.0,))[0] for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION))
    with_unit = directory.first(Tag.RESOLUTION_UNIT, 2) in MM_PER_UNIT
    if with_unit and across and down and abs(across / down - 1) > 0.01:
        what = f"its pixels are not square (resolution {across:g} x {down:g})"
        raise TifError(path, "pixels", what, "Resample it to square pixels, or correct its resolution tag.")


def _check_codec(directory: Directory) -> None:
    compression, predictor = (
        directory.first(Tag.COMPRESSION, NO_COMPRESSION),
        directory.first(Tag.PREDICTOR, 1),
    )
    built_in = compression in (NO_COMPRESSION, *DEFLATE) and predictor != _FLOAT_PREDICTOR
    if not built_in and find_spec("imagecodecs") is None:
        name = CODECS.get(compression, f"scheme {compression}")
        name += f" and predictor {predictor}" if predictor != 1 else ""
        what = f"is compressed with {name}, which needs the package imagecodecs"
        raise TifError(directory.path, "codec", what, "pip install 'pti[codecs]', or save it uncompressed.")


def _check_extent(directory: Directory) -> None:
    """Compare the declared size with the bytes that are there."""
    path, segments = directory.path, directory.segments
    rows, columns = directory.segment_shape
    if not 0 < rows <= MAX_SIDE or not 0 < columns <= MAX_SIDE:
        raise TifError(path, "unreadable", f"its strips or tiles measure {rows} x {columns} pixels", RESAVE)
    if len(segments) < directory.segment_count:
        what = f"needs {directory.segment_count} strips or tiles and lists {len(segments)}"
        raise TifError(path, "truncated", what, COPY)
    end = max(offset + count for offset, count in segments)
    if end > directory.file_bytes:
        what = f"is truncated: its pixels end at byte {end}, the file at {directory.file_bytes}"
        raise TifError(path, "truncated", what, COPY)
    plain = directory.first(Tag.COMPRESSION, NO_COMPRESSION) == NO_COMPRESSION
    declared = sum(directory.segment_bytes(index) for index in range(len(segments)))
    stored = sum(count for _, count in segments)
    if plain and stored < declared:
        height, width = directory.shape
        what = f"declares {height} x {width} {directory.dtype} pixels, {declared} bytes, and holds {stored}"
        raise TifError(path, "truncated", what, COPY)
    if declared > max(_RATIO_FLOOR, MAX_RATIO * stored):
        what = f"unpacks {stored} bytes into {declared}"
        raise TifError(path, "bomb", what, "Remove it; if it is meant, save it uncompressed.")
    if not plain and stored > 2 * declared + 2**20:
        raise TifError(path, "bomb", f"packs {declared} bytes into {stored}", RESAVE)
