"""TIF files assembled byte by byte, for what tifffile does not write."""

import struct


def header(
    width: int,
    height: int,
    data: bytes,
    compression: int = 1,
    claimed: int | None = None,
    bits: int = 32,
    predictor: int = 1,
) -> bytes:
    """Assemble a TIF file with one strip of ``bits``-bit pixels that declares ``claimed`` bytes."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, height)]
    entries += [
        (279, 4, len(data) if claimed is None else claimed),
        (317, 3, predictor),
        (339, 3, 3 if bits > 8 else 1),
    ]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(entries)) + table + bytes(4)
