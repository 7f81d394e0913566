"""Library errors turned into user errors, and the first failure of several ranks."""

import pytest

from pti.common.errors import DataError, UsageError
from pti.train.failures import first_failure, to_user_error, write_failure


def _wrapped(inner: Exception, outer: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as caught:
            raise outer from caught
    except Exception as raised:
        return raised


def test_the_death_of_a_loader_process_is_reported_through_wrappers():
    """Torch raises it in a signal handler, so that any code may catch and wrap it."""
    death = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    error = to_user_error(_wrapped(death, TypeError("unsupported callable")))
    assert isinstance(error, DataError)
    assert "process that loads images was killed" in str(error)
    assert "data.num_workers" in str(error)


def test_full_shared_memory_has_its_own_fix():
    text = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that …"
    for error in (RuntimeError(text), RuntimeError("unable to write to file </torch_1_2_3>: shared memory")):
        assert "--shm-size" in str(to_user_error(error))
        assert "data.num_workers=0" in str(to_user_error(error))


@pytest.mark.parametrize("outer", [ValueError("outer"), DataError("outer")])
def test_other_errors_are_unchanged(outer):
    assert to_user_error(_wrapped(KeyError("inner"), outer)) is outer


def _fail(folder, rank: int, error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        write_failure(folder, rank, raised)


def test_the_first_failure_is_not_a_lost_peer(tmp_path):
    _fail(tmp_path, 0, RuntimeError("Connection closed by peer"))
    _fail(tmp_path, 1, ValueError("cause"))
    assert "ValueError: cause" in str(first_failure(tmp_path, [1, 1]))
    assert not list(tmp_path.iterdir())


def test_a_users_mistake_keeps_its_type(tmp_path):
    _fail(tmp_path, 1, UsageError("seed"))
    error = first_failure(tmp_path, [None, 1])
    assert isinstance(error, UsageError)
    assert str(error) == "seed"


def test_a_killed_rank_is_named_with_its_output(tmp_path):
    _fail(tmp_path, 0, RuntimeError("Connection closed by peer"))
    (tmp_path / "rank_1.log").write_text("last words\n")
    message = str(first_failure(tmp_path, [1, -9]))
    assert "rank 1 was ended by SIGKILL" in message
    assert "last words" in message
