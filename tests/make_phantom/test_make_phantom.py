import json
import subprocess
import sys

import pytest


def make_phantom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pti.make_phantom", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "data"
    done = make_phantom(f"output_dir={folder}", "patients=2", "slices=2", "image_size=64")
    assert done.returncode == 0, done.stderr
    assert f"pti.check data.root={folder}" in done.stdout
    return folder


def test_data_set_is_written_with_picture_and_summary(data):
    assert {path.name for path in data.iterdir()} == {
        *(".hydra", "dente", "edente", "truth.csv", "phantom.json", "preview.png", "summary.json")
    }
    summary = json.loads((data / "summary.json").read_text())
    assert summary["command"] == "make_phantom"
    assert summary["figures"]["pairs"] == 4
    assert all((data / path).exists() for path in summary["artefacts"].values())


def test_the_same_again_returns_at_once(data):
    before = (data / "summary.json").read_bytes()
    done = make_phantom(f"output_dir={data}", "patients=2", "slices=2", "image_size=64")
    assert done.returncode == 0, done.stderr
    assert "there already" in done.stdout
    assert (data / "summary.json").read_bytes() == before


def test_another_phantom_does_not_overwrite(data):
    done = make_phantom(f"output_dir={data}", "patients=3", "slices=2", "image_size=64")
    assert done.returncode == 2
    assert "patients=2" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_leave_nothing(tmp_path):
    done = make_phantom(f"output_dir={tmp_path / 'data'}", "image_size=100")
    assert done.returncode == 2
    assert "image_size=100" in done.stderr
    assert "96" in done.stderr
    assert list(tmp_path.iterdir()) == []
