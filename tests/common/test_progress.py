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
    assert lines == ["counting: 1/3", "counting: 2/3, 0 s left", "counting: 3/3, 0 s left"]


def test_a_slow_start_does_not_count_in_the_remaining_time(capsys, monkeypatch):
    times = iter([0.0, 45.0, 46.0, 57.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    list(track(iter(range(3)), "counting", total=3))
    assert capsys.readouterr().err.splitlines() == ["counting: 1/3", "counting: 3/3, 0 s left"]


def test_short_work_prints_nothing(capsys):
    assert list(track([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().err == ""
