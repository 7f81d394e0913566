"""The command `check`, run in separate processes: exit codes, files and printed output."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pti.check.page import TITLES
from pti.data.phantom import make_phantom


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pti.check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    make_phantom(folder / "set", patients=10, slices=2, image_size=128, seed=1, broken=True)
    settings = ("data.pixel_mm=0.3", "workers=1")
    done = run(f"data.root={folder / 'set'}", f"output_dir={folder / 'out'}", *settings)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Partner missing" in done.stdout
    return folder


def test_a_root_that_the_user_names_is_never_generated(tmp_path):
    done = run("data=phantom", f"data.root={tmp_path / 'typo'}", f"output_dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "data.root" in done.stderr
    assert not (tmp_path / "typo").exists()


def test_sound_set_exits_0_without_findings(tmp_path):
    make_phantom(tmp_path / "set", patients=10, slices=2, image_size=128, seed=1)
    done = run(
        f"data.root={tmp_path / 'set'}", f"output_dir={tmp_path / 'out'}", "data.pixel_mm=0.3", "workers=1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["figures"] | {"errors": 0, "warnings": 0, "pairs": 20, "files": 40} == summary["figures"]
    assert (tmp_path / "out" / "check.csv").read_text() == "severity,file,fault,what,fix\n"
    assert "Findings" not in done.stdout
    assert "pti.train" in done.stdout
    assert "Ready for training" in (tmp_path / "out" / "check.html").read_text()


def test_broken_set_is_reported_in_all_three_files(broken):
    with open(broken / "out" / "check.csv", newline="") as file:
        findings = list(csv.DictReader(file))
    with open(broken / "set" / "broken.csv", newline="") as file:
        named = {Path(row["file"]).stem for row in csv.DictReader(file)}
    assert {Path(row["file"]).stem for row in findings} == named
    assert all(row["what"] and row["fix"] for row in findings)
    summary = json.loads((broken / "out" / "summary.json").read_text())
    assert summary["figures"]["errors"] == sum(row["severity"] == "error" for row in findings)
    page = (broken / "out" / "check.html").read_text()
    assert all(row["file"] in page for row in findings)
    with open(broken / "out" / "pairs.csv", newline="") as file:
        pairs = {row["name"]: row for row in csv.DictReader(file)}
    shifted = next(Path(row["file"]).stem for row in findings if row["fault"] == "shifted")
    assert float(pairs[shifted]["shift_right_px"]) == pytest.approx(3, abs=0.5)
    assert float(pairs[shifted]["shift_mm"]) == pytest.approx(0.9, abs=0.15)


def test_page_is_self_contained_and_escaped(broken):
    page = (broken / "out" / "check.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("data:image/png;base64,") >= 6
    assert "&lt;slice&gt;" in page
    assert "prefers-color-scheme: dark" in page


def test_every_fault_has_a_title(broken):
    with open(broken / "out" / "check.csv", newline="") as file:
        assert {row["fault"] for row in csv.DictReader(file)} <= set(TITLES)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "data.root is not set"),
        (("data.root=/nowhere",), "/nowhere"),
        (("data.root=.", "workers=0"), "workers=0"),
        (("data.rot=.",), "Did you mean data.root"),
    ],
)
def test_mistakes_in_the_command_line_exit_2(arguments, expected):
    done = run(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_counts_of_one_are_singular(tmp_path):
    make_phantom(tmp_path / "set", patients=4, slices=1, image_size=128, seed=1)
    next((tmp_path / "set" / "dente").iterdir()).write_bytes(b"")
    settings = ("data.pixel_mm=0.3", "data.batch_size=1", "workers=1")
    done = run(f"data.root={tmp_path / 'set'}", f"output_dir={tmp_path / 'out'}", *settings)
    assert done.returncode == 1
    page = (tmp_path / "out" / "check.html").read_text()
    assert "<b>1</b><span>error</span>" in page
    assert not re.search(
        r"\b1 (pairs|patients|files|errors|warnings)\b|\.\.",
        re.sub(r"<style>.*?</style>|base64,[^\"]*", "", page, flags=re.S),
    )
