"""The demo's commands in processes of their own: their order, their logs, what happens when one fails."""

import pytest

from pti.errors import DataError
from pti.running import run_chapters
from pti.story import Chapter

PHANTOM = Chapter("phantom", "make_phantom", ("patients=2", "slices=1", "image_size=64"), "Draw", "", 0.5)


def test_each_command_runs_once_and_is_noted(tmp_path, capsys):
    noted = []
    check = Chapter(
        "check", "check", (f"data.root={tmp_path}/phantom", "workers=1", "--cfg", "job"), "Look", "", 0.5
    )
    done = run_chapters(
        [PHANTOM, check], tmp_path, {}, 1, lambda chapter, seconds: noted.append(chapter.name)
    )
    assert done is None
    assert noted == ["phantom", "check"]
    assert len(list((tmp_path / "phantom" / "dente").glob("*.tif"))) == 2
    assert str(tmp_path / "phantom") in (tmp_path / "logs" / "check.log").read_text()
    assert "Draw: done in" in capsys.readouterr().err
    run_chapters([PHANTOM], tmp_path, {"phantom": 1.0}, 1, lambda *_: pytest.fail("it ran again"))


def test_a_failure_names_the_log(tmp_path):
    wrong = Chapter("check", "check", ("data.rot=x",), "Look", "", 0.5)
    with pytest.raises(DataError, match=r"Did you mean data\.root\?[^$]*check\.log"):
        run_chapters([wrong, PHANTOM], tmp_path, {}, 1, lambda *_: None)
    assert not (tmp_path / "phantom").exists()
