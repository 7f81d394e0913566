"""A data set in which each file has another fault: ``check`` and ``train`` name every one of them."""

import csv
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from hydra.utils import instantiate

from helpers.tif_bytes import header
from helpers.training_setup import arguments, configuration, environment, make_images, start
from pti.common.errors import DataError
from pti.data.tif import TifError, inspect, write
from pti.train.console import require_sound_data

IMAGE = np.full((16, 16), 500, np.float32)
NAME = "1000_HA_2021_02_{}.tif"


def content(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def saved(pixels: np.ndarray, **options: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})


def shortened(keep: Callable[[int], int]) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        write(path, IMAGE, 0.15)
        path.write_bytes(path.read_bytes()[: keep(path.stat().st_size)])

    return make


def looping(path: Path) -> None:
    data = bytearray(header(8, 8, bytes(256)))
    data[-4:] = struct.pack("<I", 8 + 256)
    path.write_bytes(data)


def leading_out(path: Path) -> None:
    outside = path.parents[2] / "outside.tif"
    write(outside, IMAGE, 0.15)
    path.symlink_to(outside)


def spoilt(*values: complex) -> np.ndarray:
    pixels = IMAGE.copy()
    pixels[0, : len(values)] = np.array(values)
    return pixels


ZEROS = zlib.compress(bytes(2**26))
LZW = content(header(8, 8, bytes(100), compression=5))
HEADERS = {
    "01 zero bytes": (content(b""), "is empty"),
    "01 text": (content(b"no image at all\n"), "not a TIF"),
    "01 PNG": (content(b"\x89PNG\r\n\x1a\n" + bytes(50)), "not a TIF"),
    "02 half": (shortened(lambda size: size // 2), "truncated"),
    "02 all but one byte": (shortened(lambda size: size - 1), "truncated"),
    "03 header only": (content(header(0, 0, b"")), "contains none"),
    "04 declared size": (content(header(4000, 4000, bytes(256))), "stores 256 bytes"),
    "04 declared strip": (content(header(4000, 4000, bytes(256), claimed=64_000_000)), "truncated"),
    "05 bomb": (content(header(4096, 4096, ZEROS, compression=8)), "decompresses"),
    "06 loop": (looping, "loop"),
    "07 complex": (saved(IMAGE.astype(np.complex64)), "complex64"),
    "08 RGB": (saved(np.zeros((16, 16, 3), np.uint8), photometric="rgb"), "colour"),
    "08 pages": (saved(np.zeros((3, 16, 16), np.float32)), "pages"),
    "08 other type": (saved(IMAGE.astype(np.int32)), "int32"),
    "08 other shape": (saved(IMAGE, description="shape=(5, 16, 16)", metadata=None), "stack of 5"),
    "10 dangling link": (lambda path: path.symlink_to("nowhere"), "nowhere"),
    "10 folder": (lambda path: path.mkdir(), "folder"),
    "11 link leaving the root": (leading_out, "outside"),
}
if find_spec("imagecodecs") is None:
    HEADERS["09 codec"] = (LZW, "imagecodecs")
PIXELS = {
    "07 NaN": (saved(spoilt(np.nan, np.nan)), "2 NaN"),
    "07 Inf": (saved(spoilt(np.inf, -np.inf, np.inf)), "3 infinite"),
}
CASES = HEADERS | PIXELS


class Report(NamedTuple):
    """Exit codes, and the findings that name each file."""

    check: int
    train: int
    found: dict[str, str]
    refused: dict[str, str]
    files: set[str]


def broken_set(folder: Path, cases: dict[str, Any]) -> Path:
    root = make_images(folder / "images")
    for number, (make, _) in enumerate(cases.values()):
        make(root / "dente" / NAME.format(200 + number))
        write(root / "edente" / NAME.format(200 + number), IMAGE, 0.15)
    return root


def lines_naming(output: str, cases: dict[str, Any]) -> dict[str, str]:
    names = {case: NAME.format(200 + number) for number, case in enumerate(cases)}
    return {
        case: "\n".join(line for line in output.splitlines() if name in line) for case, name in names.items()
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    """Run both commands on broken data; training reads headers first, and pixels if these are sound."""
    folder = tmp_path_factory.mktemp("broken")
    roots = [broken_set(folder / name, cases) for name, cases in (("all", CASES), ("pixels", PIXELS))]
    command = [sys.executable, "-m", "pti.check", f"data.root={roots[0]}", f"output_dir={folder / 'out'}"]
    settings = ("workers=1", "data.batch_size=4")
    pipe = subprocess.PIPE
    checking = subprocess.Popen([*command, *settings], stdout=pipe, stderr=pipe, text=True, env=environment())
    trainings = [start(folder, *arguments(root, f"output_dir={root.parent / 'run'}")) for root in roots]
    outputs = [training.communicate(timeout=280)[0] for training in trainings]
    checking.communicate(timeout=280)
    with open(folder / "out" / "check.csv", newline="") as file:
        listed = "\n".join(f"{row['file']}: {row['what']}" for row in csv.DictReader(file))
    assert all("Traceback" not in output for output in outputs)
    return Report(
        checking.returncode,
        max(training.returncode for training in trainings),
        lines_naming(listed, CASES),
        lines_naming(outputs[0], HEADERS) | lines_naming(outputs[1], PIXELS),
        {path.name for root in roots for path in (root.parent / "run").rglob("*.ckpt")},
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_named_by_check_and_train(report: Report, case: str):
    word = CASES[case][1]
    assert word in report.found[case]
    assert word in report.refused[case]
    assert (report.check, report.train) == (1, 1)
    assert not report.files  # nothing was trained


def test_a_loop_ends_within_a_second(tmp_path: Path):
    looping(tmp_path / "a.tif")
    begun = time.monotonic()
    with pytest.raises(TifError) as caught:
        inspect(tmp_path / "a.tif")
    assert caught.value.fault == "loop"
    assert time.monotonic() - begun < 1


def test_the_devices_of_a_run_need_a_batch_each(root: Path, tmp_path: Path):
    data = instantiate(configuration(root, tmp_path, "data.batch_size=4").data)
    require_sound_data(data, devices=1)
    with pytest.raises(DataError, match="fewer than one batch of 4 on each of 20 devices"):
        require_sound_data(data, devices=20)
