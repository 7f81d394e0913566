"""The benchmark command: every suite runs interleaved and writes its measurements."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pti.benchmark.__main__ import SUITES, Comparison, measure
from pti.benchmark.suites.check import EXPECTED


def test_ways_are_interleaved_after_a_warm_up() -> None:
    order: list[str] = []
    ways = {"plain": lambda: order.append("plain"), "fast": lambda: order.append("fast")}
    rows = measure(Comparison("work", "1/s", 10, ways), repeats=3)
    assert order == ["plain", "fast"] * 4
    assert [row["way"] for row in rows] == ["plain", "fast"]
    assert rows[0]["times_plain"] == 1
    assert all(row["quartiles"][0] <= row["median"] <= row["quartiles"][1] for row in rows)


def test_a_run_may_say_which_seconds_count() -> None:
    rows = measure(Comparison("work", "1/s", 10, {"plain": lambda: 2.0, "fast": lambda: 0.5}), repeats=2)
    assert [row["median"] for row in rows] == [5, 20]
    assert [row["times_plain"] for row in rows] == [1, 4]


LONG = ("vae", "ldm")


@pytest.mark.parametrize(
    "suite", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in SUITES]
)
def test_every_suite_runs(suite: str, tmp_path: Path) -> None:
    small = ["repeats=1", "images=8", "image_size=32"]
    arguments = [f"suite={suite}", f"output_dir={tmp_path / 'out'}", *small]
    subprocess.run([sys.executable, "-m", "pti.benchmark", *arguments], check=True, capture_output=True)
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert all(row["median"] > 0 for row in report["results"])
    assert report["machine"]["cpus"] >= 1
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]


@pytest.mark.slow
def test_check_is_silent_on_sound_sets_of_two_scanners_and_finds_the_faults(tmp_path: Path) -> None:
    arguments = ["suite=check", f"output_dir={tmp_path}", "images=80", "image_size=128"]
    subprocess.run([sys.executable, "-m", "pti.benchmark", *arguments], check=True, capture_output=True)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert {row["what"] for row in rows} == {"style=random seed=0", "style=random seed=1", "all sets"}
    total = {row["way"]: row["median"] for row in rows if row["what"] == "all sets"}
    assert total.pop("false alarms") == 0
    assert total.pop("findings on the whole set") == 0
    assert total == dict.fromkeys(EXPECTED, 100)


def test_unknown_suite_is_a_usage_error(tmp_path: Path) -> None:
    arguments = ["suite=dat", f"output_dir={tmp_path / 'out'}"]
    result = subprocess.run(
        [sys.executable, "-m", "pti.benchmark", *arguments], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "data" in result.stderr + result.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_stage_1_learns_on_another_scanner(tmp_path: Path) -> None:
    arguments = ["suite=robustness", f"output_dir={tmp_path}", "images=50"]
    subprocess.run([sys.executable, "-m", "pti.benchmark", *arguments], check=True, capture_output=True)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    values = {(row["what"], row["way"]): row["median"] for row in rows}
    assert values["all sets, l2", "collapsed"] == 0
    assert values["all sets, l2, worst", "bone_dice"] > 0.9
