"""A trained module's work on many images, in batches, on any number of devices."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import nn

from pti.common.errors import DataError, UsageError
from pti.common.processes import follow_parent

Batch = TypeVar("Batch")
Result = TypeVar("Result")
Load = Callable[[], nn.Module]

_AHEAD = 2  # batches handed out for each device: one at work, one waiting


def choose_devices(accelerator: str = "auto", devices: int | str = "auto") -> list[torch.device]:
    """The devices to work on.

    Args:
        accelerator: ``cpu``, ``cuda`` (or ``gpu``), ``mps``, or ``auto``: the best that there is.
        devices: how many; ``auto``: all GPUs, or one CPU process. Of the CPU: that many processes.

    Raises:
        UsageError: there are none of that kind, or not that many.
    """
    kind = {"gpu": "cuda"}.get(accelerator, accelerator)
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind == "auto":
        kind = next((name for name, count in available.items() if count), "cpu")
    if kind not in ("cpu", *available):
        raise UsageError(f"accelerator={accelerator}: expected auto, cpu, cuda or mps.")
    most = os.cpu_count() or 1 if kind == "cpu" else available[kind]
    count = (1 if kind == "cpu" else most) if devices == "auto" else devices
    if not isinstance(count, int) or not 1 <= count <= most:
        raise UsageError(f"devices={devices}: found {most} of the kind {kind}, expected auto or 1 to {most}.")
    return [torch.device(kind, index) if kind == "cuda" else torch.device(kind) for index in range(count)]


def run_batches(
    load: Load,
    work: Callable[[nn.Module, Batch], Result],
    batches: Iterable[Batch],
    devices: Sequence[torch.device],
) -> Iterator[Result]:
    """Yield ``work(module, batch)`` for each batch, as they get done; the order is open with several devices.

    One device works in this process, several in a process each, which takes the next batch when it is free.
    ``load``, ``work``, batches and results must be picklable then.

    Args:
        load: builds the module, on the CPU, once for each device.
        work: gets the module on its device in evaluation mode; gradients are off.
        batches: what to work on.
        devices: from :func:`choose_devices`.

    Raises:
        DataError: a process was killed from outside, for lack of memory for example.
    """
    if len(devices) == 1:
        module = _prepared(load, devices[0])
        for batch in batches:
            # Entered for each batch: a generator would leave the mode on between its yields.
            with torch.inference_mode():
                result = work(module, batch)
            yield result
        return
    context = multiprocessing.get_context("spawn")
    waiting = context.Queue()
    for device in devices:
        waiting.put(str(device))
    arguments = (load, waiting, max(1, torch.get_num_threads() // len(devices)))
    pool = ProcessPoolExecutor(len(devices), context, _start, arguments)
    try:
        yield from _in_pool(pool, work, iter(batches), _AHEAD * len(devices))
    except BrokenProcessPool:
        raise DataError(
            "A process was ended from outside, perhaps for lack of memory. What it had done is kept: run the "
            "same command again, with a smaller batch_size or fewer devices."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_pool(
    pool: ProcessPoolExecutor,
    work: Callable[[nn.Module, Batch], Result],
    batches: Iterator[Batch],
    ahead: int,
) -> Iterator[Result]:
    """Hand out batches as results come in, so that an endless number of them needs little memory."""
    running = {pool.submit(_work, work, batch) for batch in islice(batches, ahead)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(_work, work, batch) for batch in islice(batches, len(done))}
        for future in done:
            yield future.result()


_module: nn.Module | None = None  # of a worker process


def _start(load: Load, waiting: Any, threads: int) -> None:
    follow_parent()
    global _module  # a pool's initializer has no other way to keep something
    torch.set_num_threads(threads)
    _module = _prepared(load, torch.device(waiting.get()))


def _work(work: Callable[[nn.Module, Batch], Result], batch: Batch) -> Result:
    assert _module is not None
    with torch.inference_mode():
        return work(_module, batch)


def _prepared(load: Load, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return load().to(device).eval()
