"""CPU-bound jobs in worker processes."""

import ctypes
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

MIN_PARALLEL_JOBS = 60
"""Jobs of a few milliseconds each that are worth the start of worker processes."""

_MAX_WORKERS = 16
_CHUNK = 8  # jobs sent to a worker at a time

_MALLOC = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 32 * 2**20),  # the largest value that glibc accepts
    (-1, "MALLOC_TRIM_THRESHOLD_", 256 * 2**20),  # 128 MB is 5 % slower in `translate`, 1 GB as fast
)
"""Options of ``mallopt``: number in malloc.h, environment variable, bytes."""

_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
_work: Any = None  # in a worker: the function of `map_in_processes`


def usable_cpus() -> int:
    """Count the CPUs that this process may run on; a container or a scheduler often grants only some."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def wait_asleep() -> None:
    """Let threads of torch and NumPy sleep while they wait for each other; call it before their import.

    They spin by default, and on cores that other programs use too, each waits for a thread that the others,
    spinning, keep from running. On two cores with eight other programs, a training step of three
    convolutions took 2.0 and 0.67 s (two runs) with two spinning threads, 0.05 and 0.13 s with two sleeping
    ones, and 0.31 and 0.17 s with one thread.

    ``OMP_WAIT_POLICY`` in the environment takes precedence.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Let this process and its workers keep freed memory for new arrays, up to 256 MB of it.

    The C library of Linux (glibc) otherwise returns it to the system, and each page that is used again costs
    a fault: translations of 90 patients with 8 samples each, and their evaluation, had 15 million of them and
    took 90 s on two cores, instead of 0.4 million and 75 s. The process is 3 % larger (0.98 instead of 0.96
    GB). Trainings of an epoch are 0 to 6 % faster.

    ``MALLOC_`` variables in the environment take precedence.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library of Linux has it
    if set_option is None:
        return
    for option, name, value in _MALLOC:
        set_option(option, value)
        os.environ[name] = str(value)


def follow_parent() -> None:
    """Make this worker process ignore Ctrl-C and end with its parent.

    Ctrl-C reaches all processes of a terminal; only the parent handles it. A killed parent cannot notify its
    workers, which would wait for their next job forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def prepare_workers(*modules: str) -> None:
    """Start importing what workers need in a separate process, while this one continues.

    `map_in_processes` works without it too, but then waits for these imports. The process ends with this one.

    Args:
        modules: Names of the modules.
    """
    if _METHOD == "forkserver":
        forkserver.set_forkserver_preload(list(modules))
        # Ctrl-C must reach the parent alone, even while this process starts.
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
    min_parallel: int | None = None,
    fix: str = "close what else uses it and run the command again",
) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, in order, with a progress bar.

    Args:
        work: Callable that can be pickled, such as a module's function; each worker receives it once.
        jobs: Arguments that can be pickled.
        description: Short description for the progress bar.
        workers: Number of processes; None uses all cores, 1 works in this process.
        min_parallel: This process does the work if there are fewer jobs; None = `MIN_PARALLEL_JOBS`.
        fix: Remedy for a lack of memory, for the message.

    Raises:
        DataError: A worker was killed from outside.
        Exception: Whatever ``work`` raises, for the first job that fails.
    """
    workers = workers or min(usable_cpus(), _MAX_WORKERS)
    if workers == 1 or len(jobs) < (MIN_PARALLEL_JOBS if min_parallel is None else min_parallel):
        yield from map(work, track(jobs, description))
        return
    prepare_workers(work.__module__)
    with (
        _one_thread_each(),
        ProcessPoolExecutor(workers, get_context(_METHOD), _begin_worker, (work,)) as pool,
    ):
        try:
            with _no_main_module():
                results = pool.map(_do, jobs, chunksize=_CHUNK)
            yield from track(results, description, total=len(jobs))
        except BrokenProcessPool:
            raise DataError(
                f"{description}: one of the {workers} worker processes was killed. The machine may be short "
                f"of memory: {fix}."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Keep workers that start inside from running the program's main module.

    They do not need it, and multiprocessing cannot always run it: a program read from a pipe is gone, and a
    script without ``if __name__ == "__main__"`` would start everything again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin_worker(work: Any) -> None:
    global _work  # a pool's initializer has no other place to store it
    _work = work
    follow_parent()


def _do(job: Any) -> Any:
    return _work(job)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit worker processes that start inside to one thread each; together they use all cores already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)
