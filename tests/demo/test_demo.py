"""Which folder a demo goes on in."""

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
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interrupted demo, beside an older one."""
    monkeypatch.chdir(tmp_path)
    for day in ("01", "03"):
        folder = Path(f"outputs/demo/2025-12-{day}_00-00-00")
        folder.mkdir(parents=True)
        (folder / STATE).write_text(json.dumps({"settings": settings(config()), "seconds": {}}))
    return folder


def test_the_same_command_goes_on_with_the_newest(begun: Path):
    assert preflight(config()) == [f"output_dir='{begun}'"]


def test_a_finished_one_stays_as_it_is(begun: Path):
    (begun / "index.html").touch()
    assert preflight(config()) == ["output_dir='outputs/demo/2025-12-01_00-00-00'"]


@pytest.mark.parametrize("given", [{"minutes": 5}, {"seed": 3}, {"output_dir": "outputs/demo/mine"}])
def test_another_command_begins_anew(given: dict):
    assert preflight(config(**given)) == []


def test_a_folder_of_other_settings_is_refused(begun: Path):
    with pytest.raises(UsageError, match="other settings"):
        preflight(config(output_dir=str(begun), minutes=5))
