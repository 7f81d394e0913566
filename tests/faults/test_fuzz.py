"""Damaged TIF files and checkpoints: a result or one clear error, in bounded time and memory.

``pytest -m slow tests/faults/test_fuzz.py --fuzz 20000 --fuzz-seed 7`` chooses how many and which.
"""

import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tifffile
import torch

from helpers.damage import damaged_checkpoint, damaged_tif
from helpers.tif_bytes import header
from helpers.tiny_checkpoints import TRANSLATOR, VAE, save
from pti.data import tif
from pti.runs.checkpoint import CheckpointError, open_checkpoint
from pti.runs.constructors import build

SECONDS = 1.0
MEGABYTES = 200
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not CLEAR_REFS.exists(), reason="measures memory as Linux does"),
]

PIXELS = np.random.default_rng(0).normal(500, 100, (40, 24))
IMAGEJ = "ImageJ=1.53t\nimages=1\nunit=mm\nspacing=0.5\nmin=0.0\nmax=900.0\n"
OME = '<OME><Image><Pixels SizeX="24" PhysicalSizeX="150.0" PhysicalSizeXUnit="um"/></Image></OME>'
GDAL = '<GDALMetadata><Item role="scale">1</Item></GDALMetadata>'
TIF_OPTIONS: tuple[dict, ...] = (
    {"resolution": (66.7, 66.7), "resolutionunit": "CENTIMETER"},
    {"dtype": np.uint16, "compression": "zlib", "predictor": True},
    {"compression": "zlib", "rowsperstrip": 7},
    {"tile": (16, 16), "bigtiff": True, "byteorder": ">"},
    {"tile": (16, 32), "compression": "zlib", "dtype": np.float64},
    {"dtype": np.uint8, "byteorder": ">", "rowsperstrip": 3},
    {"dtype": np.int16, "compression": "lzma"},
    {"description": IMAGEJ, "resolution": (6.67, 6.67), "resolutionunit": "NONE"},
    {"description": OME, "extratags": [(42112, 2, 0, GDAL, True), (42113, 2, 0, "0", True)]},
)


@pytest.fixture
def tifs(tmp_path: Path) -> list[bytes]:
    rows = b"".join(b"\x16" + bytes(row) + b"\0\0" for row in np.full((40, 23), 9, np.uint8))
    files = [header(24, 40, rows, compression=32773, bits=8)]  # PackBits, which tifffile does not write
    for options in TIF_OPTIONS:
        pixels = PIXELS.astype(options.get("dtype", np.float32))
        options = {key: value for key, value in options.items() if key != "dtype"}
        tifffile.imwrite(tmp_path / "valid.tif", pixels, photometric="minisblack", **options)
        tif.read(tmp_path / "valid.tif")
        files.append((tmp_path / "valid.tif").read_bytes())
    (tmp_path / "valid.tif").write_bytes(files[0])
    assert tif.read(tmp_path / "valid.tif").pixels.max() == 9
    return files


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[bytes]:
    files = []
    for model in (VAE, VAE, VAE, TRANSLATOR):  # the first is small
        path = save(tmp_path / "valid.ckpt", build(model, "the test"), model, tmp_path)
        open_checkpoint(path).load_module()
        files.append(path.read_bytes())
    return files


def read_tif(path: Path) -> None:
    image, header = tif.read(path), tif.inspect(path)
    assert image.pixels.shape == header.shape
    assert np.isfinite(image.pixels).all()
    assert image.pixel_mm is None or 0.0009 < image.pixel_mm < 10.1


def load_checkpoint(path: Path) -> None:
    module = open_checkpoint(path).load_module()
    assert isinstance(module, torch.nn.Module)


@pytest.mark.parametrize(
    ("fixture", "damage", "read", "error"),
    [
        pytest.param("tifs", damaged_tif, read_tif, tif.TifError, id="tif"),
        pytest.param("checkpoints", damaged_checkpoint, load_checkpoint, CheckpointError, id="checkpoint"),
    ],
)
def test_damaged_files_give_a_result_or_one_clear_error(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fixture: str,
    damage: Callable[[bytes, Random, list[bytes]], bytes],
    read: Callable[[Path], None],
    error: type[Exception],
) -> None:
    valid: list[bytes] = request.getfixturevalue(fixture)
    seed = request.config.getoption("--fuzz-seed")
    path, outcomes = tmp_path / "damaged", {"read": 0, "refused": 0}
    for index in range(request.config.option.fuzz):
        random = Random(f"{seed} {index}")
        data = random.choice(valid)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(random.choice((1, 1, 2, 4))):
                data = damage(data, random, valid) or b" "
        path.write_bytes(data)
        problem = find_problem(path, read, error, outcomes)
        assert problem is None, f"--fuzz-seed {seed}, input {index}, which is kept as {path}: {problem}"
    assert outcomes["read"] > 0
    assert outcomes["refused"] > outcomes["read"] / 10


def find_problem(
    path: Path, read: Callable[[Path], None], error: type[Exception], outcomes: dict[str, int]
) -> str | None:
    """Read a file; return what is wrong with the outcome, its time or its memory, or None."""
    CLEAR_REFS.write_text("5")  # the peak becomes the present size
    before, began, problem = peak_megabytes(), time.process_time(), None
    try:
        with no_longer_than(5 * SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
            outcomes["read"] += 1
    except error as refusal:
        outcomes["refused"] += 1
        if str(path) not in str(refusal) or len(str(refusal)) > 1000 or "\n" in str(refusal):
            problem = f"not a clear message: {refusal}"
    except (Exception, Overlong) as other:
        problem = f"{type(other).__name__}: {other}"
    seconds, megabytes = time.process_time() - began, peak_megabytes() - before
    if seconds > SECONDS or megabytes > MEGABYTES:
        problem = f"took {seconds:.1f} s and {megabytes:.0f} MB ({problem})"
    return problem


class Overlong(BaseException):
    """Reading takes too long."""


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raise `Overlong` after this much time of the processor."""

    def stop(*_: object) -> None:
        raise Overlong

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def peak_megabytes() -> float:
    """Return the largest memory of this process since the peak was reset."""
    found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1000
