"""The benchmark command: suites, files, interruption, settings."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pti.benchmark.__main__ import SUITES
from pti.benchmark.device import peak_process_mb
from pti.benchmark.suites.check import EXPECTED

TINY = (
    "accelerator=cpu",
    "repeats=1",
    "images=8",
    "image_size=32",
    "batch_size=2",
    "steps=1",
    "translations=2",
    "plain_steps=2",
)


def benchmark(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pti.benchmark", *arguments]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_suites_run_and_the_files_agree(tmp_path: Path):
    arguments = benchmark(f"output_dir={tmp_path}", *TINY, "memory=false")
    subprocess.run(arguments, check=True, capture_output=True)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    rows = report["results"]
    assert list(dict.fromkeys(row["suite"] for row in rows)) == list(SUITES)
    assert [row for row in rows if row["ms"] <= 0 or row["peak_process_mb"] is not None] == []
    assert all(row["gflop"] for row in rows if row["suite"] in ("vae", "ldm", "translate"))
    assert report["matmul_flops_per_s"]["float32"] > 0
    text = (tmp_path / "benchmark.md").read_text()
    assert all(row["side"] in text for row in rows)
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert set(summary["artefacts"]) == {"benchmark.json", "benchmark.md", "benchmark.png"}


@pytest.mark.slow
def test_the_peak_memory_is_that_of_a_process_with_torch(tmp_path: Path):
    subprocess.run(benchmark("suite=data", f"output_dir={tmp_path}", *TINY), check=True, capture_output=True)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    torch_mb = peak_process_mb([sys.executable, "-c", "import torch"])
    assert all(row["peak_process_mb"] > 0.9 * torch_mb for row in report["results"])  # up to page sharing


@pytest.mark.slow
def test_an_interrupt_leaves_the_finished_suites(tmp_path: Path):
    running = subprocess.Popen(benchmark(f"output_dir={tmp_path}", *TINY), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "benchmark.png").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    assert running.wait(120) == 130
    rows = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert {row["suite"] for row in rows} == {"data"}
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("suite=dat", "data"),
        ("image_size=100", "a multiple of 32"),
        ("plain_steps=1", "2 to 1000"),
        ("suite=steps", "ckpt=best:ldm_demo"),
        ("repeats=0", "1 or more"),
        ("ckpt=nowhere.ckpt", "nowhere.ckpt"),
        ("accelerator=quantum", "auto, cpu, cuda, gpu, mps"),
    ],
)
def test_mistakes_are_refused_with_what_is_expected(tmp_path: Path, setting: str, expected: str):
    arguments = benchmark(setting, f"output_dir={tmp_path / 'out'}")
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_check_is_silent_on_sound_sets_of_two_scanners_and_finds_the_faults(tmp_path: Path) -> None:
    arguments = ["suite=check", f"output_dir={tmp_path}", "images=80", "image_size=128"]
    subprocess.run(benchmark(*arguments), check=True, capture_output=True)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert {row["what"] for row in rows} == {"style=random seed=0", "style=random seed=1", "all sets"}
    total = {row["way"]: row["median"] for row in rows if row["what"] == "all sets"}
    assert total.pop("false alarms") == 0
    assert total.pop("findings on the whole set") == 0
    assert total == dict.fromkeys(EXPECTED, 100)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stage_1_learns_on_another_scanner(tmp_path: Path) -> None:
    arguments = ["suite=robustness", f"output_dir={tmp_path}", "images=50"]
    subprocess.run(benchmark(*arguments), check=True, capture_output=True)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    values = {(row["what"], row["way"]): row["median"] for row in rows}
    assert values["all sets, l2", "collapsed"] == 0
    assert values["all sets, l2, worst", "bone_dice"] > 0.9
