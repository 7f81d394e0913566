"""The demo's page, from the summaries and pictures of its chapters."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pti.demo.chapters import chapters
from pti.demo.page import write_page

VALUES = {
    "height_abs_error_mm": 0.713,
    "height_abs_error_mm of condition − mean loss": 1.05,
    "changed_ghost_index": -0.043,
    "changed_texture_amplitude": 0.87,
    "unchanged_texture_correlation": 0.98,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "closeup.png").touch()
    return tmp_path


def page(folder: Path, figures: Mapping[str, float | None]) -> str:
    (folder / "evaluation" / "summary.json").write_text(json.dumps({"figures": figures}))
    story = chapters(folder, None, minutes=15, samples=8, seed=0)
    return write_page(story, folder, {"evaluation": 90.0}).read_text(encoding="utf-8")


def test_the_healed_bone_is_shown_beside_the_height_error(folder: Path):
    html = page(folder, VALUES)
    for shown in ("<b>0.71 mm</b>", "<b>1.05 mm</b>", "<b>−0.04</b>", "<b>0.87</b>", "<b>0.98</b>"):
        assert shown in html
    assert '<img src="evaluation/closeup.png"' in html


def test_figures_that_are_missing_are_left_out(folder: Path):
    html = page(folder, VALUES | {"changed_ghost_index": None})
    assert "ghost index: how much" not in html
    assert "<b>0.87</b>" in html
