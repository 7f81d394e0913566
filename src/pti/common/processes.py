"""Work that keeps one core busy, spread over processes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, get_all_start_methods, get_context, parent_process
from types import ModuleType
from typing import Any, TypeVar

from pti.common.errors import DataError
from pti.common.progress import track

Job = TypeVar("Job")
Result = TypeVar("Result")

ALONE = 60  # jobs of some milliseconds; starting worker processes takes longer than doing fewer
_MOST_WORKERS = 16
_CHUNK = 8  # jobs sent to a worker at a time

_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
_work: Any = None  # in a worker: what is done to each job


def usable_cpus() -> int:
    """CPUs that this process may run on; a container or a scheduler often grants fewer than the machine
    has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def follow_parent() -> None:
    """To be called in a worker process: leave ending to the parent, and end with it.

    Ctrl-C reaches all processes of a terminal. And a parent that was killed can tell nobody: without this a
    worker would wait for its next job forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def prepare_workers(*modules: str) -> None:
    """Begin to import what workers will need, in a process of its own, while this one does something else.

    Without it `map_in_processes` works as well, and waits for these imports. The process ends with this one.

    Args:
        modules: their names.
    """
    if _METHOD == "forkserver":
        forkserver.set_forkserver_preload(list(modules))
        # Ctrl-C is for the parent alone also while this begins.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _one_thread_each():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def map_in_processes(
    work: Callable[[Job], Result],
    jobs: Collection[Job],
    description: str,
    workers: int | None = None,
    alone: int | None = None,
    fix: str = "close what else uses it and run the command again",
) -> Iterator[Result]:
    """``work`` of each job, in their order, with a progress bar.

    Args:
        work: a function of a module, or another thing that can be pickled; each worker gets it once.
        jobs: what can be pickled.
        description: what is being done, in a few words.
        workers: processes; None takes all cores, and 1 works in this process.
        alone: with fewer jobs, this process does them; None = :data:`ALONE`.
        fix: what to do when memory is short.

    Raises:
        DataError: a worker was killed from outside.
        Exception: what ``work`` raises.
    """
    workers = workers or min(usable_cpus(), _MOST_WORKERS)
    if workers == 1 or len(jobs) < (ALONE if alone is None else alone):
        yield from map(work, track(jobs, description))
        return
    prepare_workers(work.__module__)
    with (
        _one_thread_each(),
        ProcessPoolExecutor(workers, get_context(_METHOD), _begin_worker, (work,)) as pool,
    ):
        try:
            with _no_main_module():
                done = pool.map(_do, jobs, chunksize=_CHUNK)
            yield from track(done, description, total=len(jobs))
        except BrokenProcessPool:
            raise DataError(
                f"{description}: one of the {workers} processes at work was killed. The machine may be short "
                f"of memory: {fix}."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Workers that start inside don't run the program's main module.

    Nothing of it is needed here, and multiprocessing can't run all: a program that came through a pipe is
    not there any more, and a script without ``if __name__ == "__main__"`` would start everything again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin_worker(work: Any) -> None:
    global _work  # a pool's initializer has no other way to keep something
    _work = work
    follow_parent()


def _do(job: Any) -> Any:
    return _work(job)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Worker processes that start inside use one thread each: together they use all cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
