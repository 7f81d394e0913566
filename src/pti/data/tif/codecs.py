"""Decompression of strips and tiles to a limited length."""

import lzma
import zlib

_LZMA_MEMORY = 100 * 2**20  # bytes; the highest preset needs 65 MiB


def _deflate(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj().decompress(data, limit)


def _lzma(data: bytes, limit: int) -> bytes:
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(data, limit)


def _packbits(data: bytes, limit: int) -> bytes:
    decoded, at = bytearray(), 0
    while at < len(data) and len(decoded) < limit:
        code = data[at]
        if code < 128:  # that many bytes and one
            decoded += data[at + 1 : at + 2 + code]
            at += 2 + code
        else:  # the next byte, repeated; 128 does nothing
            decoded += data[at + 1 : at + 2] * (257 - code) if code > 128 else b""
            at += 1 + (code > 128)
    return bytes(decoded)


DECODERS = {8: _deflate, 32946: _deflate, 32773: _packbits, 34925: _lzma}
"""Compression scheme -> function of the data and the number of bytes after which it may stop."""
