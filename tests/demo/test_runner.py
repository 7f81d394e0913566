"""The demo's commands in processes: their order, their logs, a failure, the time left."""

import pytest

from pti.common.errors import DataError
from pti.demo.chapters import Chapter
from pti.demo.runner import Display, run_chapters

PHANTOM = Chapter("phantom", "make_phantom", "Draw", 1, ("patients=2", "slices=1", "image_size=64"))


def test_each_command_runs_once_and_is_noted(tmp_path, capsys):
    noted = []
    check = Chapter(
        "check", "check", "Look", 1, (f"data.root={tmp_path}/phantom", "workers=1", "--cfg", "job")
    )
    done = run_chapters([PHANTOM, check], tmp_path, {}, lambda chapter, seconds: noted.append(chapter.name))
    assert done is None
    assert noted == ["phantom", "check"]
    assert len(list((tmp_path / "phantom" / "dente").glob("*.tif"))) == 2
    assert str(tmp_path / "phantom") in (tmp_path / "logs" / "check.log").read_text()
    assert "Draw: done in" in capsys.readouterr().err
    run_chapters([PHANTOM], tmp_path, {"phantom": 1.0}, lambda *_: pytest.fail("it ran again"))


def test_a_failure_names_the_log(tmp_path):
    wrong = Chapter("check", "check", "Look", 1, ("data.rot=x",))
    with pytest.raises(DataError, match=r"Did you mean data\.root\?[^$]*check\.log"):
        run_chapters([wrong, PHANTOM], tmp_path, {}, lambda *_: None)
    assert not (tmp_path / "phantom").exists()


def test_the_time_left_follows_the_pace_of_the_machine(monkeypatch, capsys):
    """Check that a training at half the expected pace doubles the time expected for the rest."""
    clock = [0.0]
    monkeypatch.setattr("pti.demo.runner.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("pti.demo.runner.SECONDS_BETWEEN_LINES", 0.0)
    story = [Chapter(verb, verb, verb, 60) for verb in ("train", "translate", "evaluate")]
    display = Display(story, {})

    def left(number: int, line: str) -> str:
        display.show(number, line)
        return capsys.readouterr().err.rsplit("(", 1)[1].removesuffix(" left in all)\n")

    assert left(0, "starting") == "3 min 00 s"
    clock[0] = 30
    assert left(0, "epoch 1/4  1 min 30 s left") == "3 min 30 s"
    clock[0] = 120
    display.finish(0)
    capsys.readouterr()
    assert left(1, "starting") == "4 min 00 s"
    clock[0] = 200
    assert left(1, "Writing: 1/9, 3 s left") == "2 min 40 s"  # of the current part, not of the command
    display.finish(1)
    capsys.readouterr()
    left(2, "starting")
    clock[0] = 400
    assert left(2, "still at it") == "25 s"  # longer than expected: more than the minimum
