"""Batches of files: reading, computing and writing overlap, and a failure loses nothing before it."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import nn

from pti.inference.devices import FileWork, run_batches

PATIENCE = 20
"""Seconds to wait for another thread, far more than it needs."""


class Recorded(FileWork[int, int, int, int]):
    """Adds 1 in each of the three parts; tests hook in what else happens there."""

    def __init__(self) -> None:
        self.began: dict[str, threading.Event] = defaultdict(threading.Event)
        self.threads: dict[str, set[int]] = defaultdict(set)

    def begin(self, part: str, batch: int) -> None:
        self.threads[part].add(threading.get_ident())
        self.began[f"{part} {batch}"].set()

    def read(self, batch: int) -> int:
        self.begin("read", batch)
        return batch + 1

    def compute(self, module: Any, batch: int, contents: int) -> int:
        self.begin("compute", batch)
        assert torch.is_inference_mode_enabled()
        return contents + 1

    def write(self, batch: int, contents: int, outputs: int) -> int:
        self.begin("write", batch)
        return outputs + 1


def run(work: FileWork, batches: int) -> Generator[int, None, None]:
    yield from run_batches(nn.Identity, work, range(batches), [torch.device("cpu")])


def test_results_come_in_order_and_computing_stays_in_the_main_thread():
    work = Recorded()
    assert list(run(work, 5)) == [3, 4, 5, 6, 7]
    assert work.threads["compute"] == {threading.get_ident()}
    assert threading.get_ident() not in work.threads["read"] | work.threads["write"]


def test_the_next_batch_is_read_and_the_last_one_written_while_one_is_computed():
    class Waiting(Recorded):
        def compute(self, module: Any, batch: int, contents: int) -> int:
            if batch < 3:
                assert self.began[f"read {batch + 1}"].wait(PATIENCE)
            self.begin("compute", batch)
            return contents + 1

        def write(self, batch: int, contents: int, outputs: int) -> int:
            if batch < 3:
                assert self.began[f"compute {batch + 1}"].wait(PATIENCE)
            return outputs + 1

    assert list(run(Waiting(), 4)) == [3, 4, 5, 6]


@pytest.mark.parametrize(("part", "finished"), [("read", [3, 4]), ("compute", [3, 4]), ("write", [3, 4, 6])])
def test_a_failure_comes_after_all_that_is_done(
    part: str, finished: list[int], monkeypatch: pytest.MonkeyPatch
):
    work = Recorded()
    begin = work.begin

    def failing(name: str, batch: int) -> None:
        begin(name, batch)
        if (name, batch) == (part, 2):
            raise OSError("no space left")

    monkeypatch.setattr(work, "begin", failing)
    done: list[int] = []
    with pytest.raises(OSError, match="no space left"):
        done.extend(run(work, 5))
    assert done == finished


def test_an_interrupt_while_computing_leaves_what_is_done():
    class Interrupted(Recorded):
        def compute(self, module: Any, batch: int, contents: int) -> int:
            if batch == 2:
                raise KeyboardInterrupt
            return super().compute(module, batch, contents)

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        done.extend(run(Interrupted(), 5))
    assert done == [3, 4]


def test_whoever_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    with contextlib.closing(run(Recorded(), 100)) as results:
        assert next(results) == 3
    assert threading.active_count() == before
