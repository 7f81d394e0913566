"""Run a trained module on batches of images, on any number of devices."""

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from pti.common.errors import DataError, UsageError
from pti.common.processes import follow_parent
from pti.modules.protocols import Autoencoder, Translator

Batch = TypeVar("Batch")
Item = TypeVar("Item")
Result = TypeVar("Result")
Load = Callable[[], Any]
"""Builds a module on the CPU."""

Contents = TypeVar("Contents")
Outputs = TypeVar("Outputs")


class FileWork(ABC, Generic[Batch, Contents, Outputs, Result]):
    """Work on batches of files: a device computes one while threads read the next and write the last one."""

    @abstractmethod
    def read(self, batch: Batch) -> Contents:
        """Read the files of a batch."""

    @abstractmethod
    def compute(self, module: Any, batch: Batch, contents: Contents) -> Outputs:
        """Run the module."""

    @abstractmethod
    def write(self, batch: Batch, contents: Contents, outputs: Outputs) -> Result:
        """Write the results of a batch."""

    def __call__(self, module: Any, batch: Batch) -> Result:
        """Read, compute and write a batch."""
        contents = self.read(batch)
        return self.write(batch, contents, self.compute(module, batch, contents))


_BATCHES_PER_DEVICE = 2  # one being computed, one waiting


def choose_devices(accelerator: str = "auto", devices: int | str = "auto") -> list[torch.device]:
    """Choose the devices to run on.

    Args:
        accelerator: ``cpu``, ``cuda`` (or ``gpu``), ``mps``, or ``auto``: the best available.
        devices: Number of devices, or of processes on the CPU; ``auto``: all GPUs, or one CPU process.

    Raises:
        UsageError: This machine has no such devices, or not that many.
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
        raise UsageError(
            f"devices={devices}: this machine has {most} of kind {kind}, expected auto or 1 to {most}."
        )
    return [torch.device(kind, index) if kind == "cuda" else torch.device(kind) for index in range(count)]


def named_device(name: str) -> torch.device:
    """Return a device by its name, such as ``cuda:1``.

    Raises:
        UsageError: It can't be used on this machine.
    """
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name}: not usable here ({str(error).splitlines()[0]}).") from None


def device_of(module: Autoencoder | Translator) -> torch.device:
    """Return the device that a trained module is on."""
    return next(module.normalization.buffers()).device


def batched(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into batches; the last one may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def run_batches(
    load: Load,
    work: Callable[[Any, Batch], Result],
    batches: Iterable[Batch],
    devices: Sequence[torch.device],
) -> Iterator[Result]:
    """Yield ``work(module, batch)`` for each batch as it completes; in order only on a single device.

    A single device is used from this process. Several devices get one process each, which takes the next
    batch when it is free; ``load``, ``work``, batches and results must then be picklable.

    Args:
        load: Builds the module on the CPU; called once per device.
        work: Receives the module on its device, in evaluation mode and with gradients off. On a single
            device, reading and writing of a `FileWork` overlap with computing.
        batches: The batches to process.
        devices: From :func:`choose_devices`.

    Raises:
        DataError: A process was killed, for example because memory ran out.
    """
    if len(devices) == 1:
        module = _prepare(load, devices[0])
        if isinstance(work, FileWork):
            yield from _overlapped(work, module, iter(batches))
            return
        for batch in batches:
            # Entered for each batch: around the loop, it would stay active between the yields.
            with torch.inference_mode():
                result = work(module, batch)
            yield result
        return
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(str(device))
    arguments = (load, free, max(1, torch.get_num_threads() // len(devices)))
    pool = ProcessPoolExecutor(len(devices), context, _start_worker, arguments)
    try:
        yield from _run_in_pool(pool, work, iter(batches), _BATCHES_PER_DEVICE * len(devices))
    except BrokenProcessPool:
        raise DataError(
            "A process was killed, perhaps because memory ran out. Finished results are kept: run the same "
            "command again with a smaller batch_size or fewer devices."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _overlapped(
    work: FileWork[Batch, Any, Any, Result], module: Any, batches: Iterator[Batch]
) -> Iterator[Result]:
    """Compute batches in this thread, which an interrupt reaches; read and write in two others.

    After a failure, the batch before it is still yielded.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def read_next() -> tuple[Batch, Future[Any]] | None:
            batch = next(batches, None)
            return None if batch is None else (batch, reader.submit(work.read, batch))

        written: Future[Result] | None = None
        try:
            following = read_next()
            while following is not None:
                batch, reading = following
                contents, following = reading.result(), read_next()
                with torch.inference_mode():
                    outputs = work.compute(module, batch, contents)
                last, written = written, writer.submit(work.write, batch, contents, outputs)
                if last is not None:
                    yield last.result()
        except GeneratorExit:
            raise
        except BaseException:
            if written is not None:
                yield written.result()
            raise
        finally:
            reader.shutdown(cancel_futures=True)
        if written is not None:
            yield written.result()


def _run_in_pool(
    pool: ProcessPoolExecutor,
    work: Callable[[Any, Batch], Result],
    batches: Iterator[Batch],
    limit: int,
) -> Iterator[Result]:
    """Keep at most ``limit`` batches submitted, so that any number of them needs little memory."""
    running = {pool.submit(_work, work, batch) for batch in islice(batches, limit)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(_work, work, batch) for batch in islice(batches, len(done))}
        for future in done:
            yield future.result()


_module: nn.Module | None = None  # of a worker process


def _start_worker(load: Load, free: Any, threads: int) -> None:
    follow_parent()
    global _module  # the initializer of a pool can't hand over anything in another way
    torch.set_num_threads(threads)
    _module = _prepare(load, torch.device(free.get()))


def _work(work: Callable[[Any, Batch], Result], batch: Batch) -> Result:
    with torch.inference_mode():
        return work(_module, batch)


def _prepare(load: Load, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return load().to(device).eval()
