"""The folder that a demo is resumed in."""

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.demo.__main__ import STATE, preflight, settings

NOW = "outputs/demo/2026-01-02_03-04-05"


def config(**given: object) -> DictConfig:
    demo = OmegaConf.load(CONF_DIR / "demo.yaml")
    return OmegaConf.merge(demo, {"output_dir": NOW, **given})  # pyright: ignore[reportReturnType]


@pytest.fixture(autouse=True)
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an interrupted demo and an older one."""
    monkeypatch.chdir(tmp_path)
    for day in ("01", "03"):
        folder = Path(f"outputs/demo/2025-12-{day}_00-00-00")
        folder.mkdir(parents=True)
        (folder / STATE).write_text(json.dumps({"settings": settings(config()), "seconds": {}}))
    return folder


def test_the_same_command_resumes_the_newest(interrupted: Path):
    assert preflight(config()) == [f"output_dir='{interrupted}'"]


def test_a_finished_demo_is_not_resumed(interrupted: Path):
    (interrupted / "index.html").touch()
    assert preflight(config()) == ["output_dir='outputs/demo/2025-12-01_00-00-00'"]


@pytest.mark.parametrize("given", [{"minutes": 5}, {"seed": 3}, {"output_dir": "outputs/demo/mine"}])
def test_another_command_starts_a_new_demo(given: dict):
    assert preflight(config(**given)) == []


def test_a_folder_of_other_settings_is_refused(interrupted: Path):
    with pytest.raises(UsageError, match="other settings"):
        preflight(config(output_dir=str(interrupted), minutes=5))
