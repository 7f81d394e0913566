import pytest

from pti.common import progress
from pti.common.progress import format_duration, track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


def test_yields_everything_and_says_how_long_it_will_take(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(track(iter(range(3)), "counting", total=3)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "counting: 3/3, 0 s left"
    assert len(lines) == 3


def test_short_work_prints_nothing(capsys):
    assert list(track([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().err == ""
