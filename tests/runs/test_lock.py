"""Exclusive locks on output folders."""

import errno
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from filelock import FileLock

from pti.common.errors import DataError, UsageError
from pti.runs.lock import exclusive


def _hold(folder: Path, held: Event, end: Event) -> None:
    with exclusive(folder, "held"):
        held.set()
        end.wait()


def test_a_second_holder_is_refused(tmp_path: Path):
    folder = tmp_path / "run"
    with exclusive(folder, "first"):
        with pytest.raises(DataError, match="second"), exclusive(folder, "second"):
            pass
        with pytest.raises(UsageError, match="third"), exclusive(folder, "third", UsageError):
            pass
    with exclusive(folder, "again"):
        pass


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "no locks")])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
):
    def acquire(self: FileLock, timeout: float) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with exclusive(tmp_path, "busy"):
        assert str(tmp_path) in caplog.text
    assert f"has no locks ({error})" in caplog.text


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, end))
    process.start()
    assert held.wait(60)
    with pytest.raises(DataError, match="busy"), exclusive(tmp_path, "busy"):
        pass
    process.kill()
    process.join()
    with exclusive(tmp_path, "free"):
        pass
