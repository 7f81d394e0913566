"""TIF files that can't be used: the code of each fault, bounded time and memory for hostile files."""

import lzma
import os
import pickle
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from helpers.tif_bytes import header
from pti.common.errors import DataError
from pti.data.tif import TifError, inspect, read

PIXELS = np.arange(48 * 32, dtype=np.float32).reshape(48, 32) / 7 - 3


def fault(path: Path) -> str:
    """Return the fault code with which `read` rejects a file."""
    with pytest.raises(TifError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert caught.value.fix in message
    return caught.value.fault


def zeros(count: int) -> bytes:
    """Return ``count`` zero bytes, deflated without holding them in memory."""
    stream, part = zlib.compressobj(), bytes(2**20)
    return b"".join(stream.compress(part) for _ in range(count // len(part))) + stream.flush()


def test_faults_of_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for content, code in (
        (b"", "empty"),
        (b"II", "not_tif"),
        (b"a text\n", "not_tif"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not_tif"),
        (struct.pack("<2sHI", b"II", 42, 0), "header_only"),
        (struct.pack("<2sHI", b"II", 42, 8), "truncated"),
        (header(0, 0, b""), "header_only"),
    ):
        path.write_bytes(content)
        assert fault(path) == code
    path.unlink()
    assert fault(path) == "unreadable"
    path.symlink_to("nowhere")
    assert fault(path) == "unreadable"
    path.unlink()
    path.mkdir()
    assert fault(path) == "unreadable"
    path.rmdir()
    os.mkfifo(path)
    assert fault(path) == "unreadable"


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"tile": (16, 16)}], ids=str
)
def test_every_truncation_is_detected(tmp_path: Path, options: dict) -> None:
    complete, path = tmp_path / "complete.tif", tmp_path / "truncated.tif"
    tifffile.imwrite(complete, PIXELS, **options)
    content = complete.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 200, 20, 9):
        path.write_bytes(content[:length])
        assert fault(path) in ("truncated", "header_only")
        with pytest.raises(TifError):  # not only once its pixels are decoded
            inspect(path)


@pytest.mark.parametrize("cut", [1, 4, 60, 200])
def test_truncation_is_detected_if_the_directory_is_last(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(header(8, 8, bytes(256)))
    assert np.array_equal(read(path).pixels, np.zeros((8, 8)))
    path.write_bytes(header(8, 8, bytes(256))[:-cut])
    assert fault(path) == "truncated"


def test_faults_of_tif_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cases: list[tuple[np.ndarray, dict[str, Any], str]] = [
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "rgb"}, "channels"),
        (
            np.zeros((2, 8, 8), np.float32),
            {"planarconfig": "separate", "photometric": "minisblack"},
            "channels",
        ),
        (np.zeros((3, 8, 8), np.float32), {"photometric": "minisblack"}, "pages"),
        (np.zeros((8, 8), np.complex64), {}, "dtype"),
        (np.zeros((8, 8), np.int32), {}, "dtype"),
        (np.zeros((8, 8), np.float16), {}, "dtype"),
        (np.zeros((2, 5000), np.float32), {}, "too_large"),
        (np.zeros((8, 8), np.float32), {"resolution": (100, 50), "resolutionunit": "CENTIMETER"}, "pixels"),
    ]
    for pixels, options, code in cases:
        tifffile.imwrite(path, pixels, **options)
        assert fault(path) == code, (pixels.shape, pixels.dtype)


def test_non_finite_pixels_are_counted(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[0, :3], pixels[1, :2] = np.nan, [np.inf, -np.inf]
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(TifError, match="3 NaN and 2 infinite pixels of 1536"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.full((8, 8), 1e300))
    assert fault(tmp_path / "b.tif") == "non_finite"


def test_compression_without_its_codec_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pti.data.tif.checks.find_spec", lambda _: None)
    (tmp_path / "a.tif").write_bytes(header(8, 8, bytes(100), compression=5))
    with pytest.raises(TifError, match=r"LZW.*imagecodecs.*pip install 'pti\[codecs\]'") as caught:
        inspect(tmp_path / "a.tif")
    assert caught.value.fault == "codec"


def test_loops_false_sizes_and_bombs_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    looping = bytearray(header(8, 8, bytes(256)))
    looping[-4:] = struct.pack("<I", 8 + 256)
    pages = b"".join(struct.pack("<HI", 0, 8 + 6 * (page + 1)) for page in range(5000)) + struct.pack(
        "<HI", 0, 0
    )
    for content, code in (
        (bytes(looping), "loop"),
        (struct.pack("<2sHI", b"II", 42, 8) + pages, "pages"),
        (header(46000, 46000, bytes(256)), "too_large"),
        (header(4000, 4000, bytes(256)), "truncated"),
        (header(4000, 4000, bytes(256), claimed=64_000_000), "truncated"),
        (header(4096, 4096, zeros(2**26), compression=8), "bomb"),
        (header(8, 8, zeros(2**24), compression=8), "bomb"),
        (header(8, 8, zlib.compress(bytes(100)), compression=8), "truncated"),
        (header(8, 8, b"not deflate at all", compression=8), "unreadable"),
        (header(8, 8, lzma.compress(bytes(2**24)), compression=34925), "bomb"),
        (header(8, 8, lzma.compress(bytes(100)), compression=34925), "truncated"),
        (header(8, 8, b"not xz at all", compression=34925), "unreadable"),
        (header(8, 8, b"\x81\0" * 9, compression=32773), "bomb"),
        (header(8, 8, b"\x81\0", compression=32773), "truncated"),
        (header(8, 8, b"\x81", compression=32773), "truncated"),
        (header(8, 8, b"\x05ab", compression=32773), "truncated"),
        (header(8, 8, bytes(256), predictor=7), "codec"),
        (header(8, 8, bytes(64), bits=8, predictor=3), "codec"),
        (header(8, 8, bytes(256), bits=12), "dtype"),
    ):
        path.write_bytes(content)
        assert fault(path) == code


def test_random_damage_gives_a_clear_error_or_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(header(8, 8, bytes(256)).replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 5)))
    assert fault(path) == "header_only"  # positions of strips as fractions
    generator = np.random.default_rng(0)
    cases: list[dict[str, Any]] = [
        *({}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 16)}),
        {"compression": "lzma", "tile": (16, 16), "imagej": False, "description": "ImageJ=1\nunit=mm"},
    ]
    for options in cases:
        tifffile.imwrite(path, PIXELS, **options)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            damaged = content.copy()
            damaged[generator.integers(0, 300, 4)] = generator.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            with suppress(TifError):
                assert read(path).pixels.ndim == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_hostile_files_stay_under_200_mb(tmp_path: Path) -> None:
    bombs = [
        header(4096, 4096, zeros(2**26), compression=8),
        header(1024, 1024, zeros(2**28), compression=8),  # would unpack to 256 MB
        header(46000, 46000, bytes(256)),
        header(4096, 4096, lzma.compress(bytes(2**27)), compression=34925),
        header(1024, 1024, b"\x81\0" * 2**20, compression=32773),
    ]
    for number, content in enumerate(bombs):
        (tmp_path / f"{number}.tif").write_bytes(content)
    program = """if True:
        import sys
        from pathlib import Path
        from pti.data.tif import TifError, read
        def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024
        before = peak()
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try: read(path); sys.exit(3)
            except TifError: pass
        print(peak() - before)"""
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 60


def test_the_error_survives_pickling() -> None:
    error = TifError(Path("a.tif"), "empty", "is empty", "Copy it again.")
    again = pickle.loads(pickle.dumps(error))
    assert issubclass(TifError, DataError)
    assert isinstance(again, TifError)
    assert (str(again), again.fault) == ("a.tif: is empty. Copy it again.", "empty")
