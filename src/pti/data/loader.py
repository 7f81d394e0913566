"""Batches from loader processes, starting at any position of an epoch."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from pti.common.errors import DataError
from pti.common.processes import usable_cpus
from pti.data.dataset import Key, TifDataset
from pti.data.latent_cache import LatentDataset

Plan = Callable[[int], list[list[int]]]
"""epoch -> sample indices of each batch."""

Position = Callable[[], tuple[int, int]]
"""-> (epoch, number of its batches that are done)."""

SHARED_MEMORY = "/dev/shm"
"""Folder of the shared memory (Linux) through which loader processes pass batches."""


def auto_workers(heavy: bool, on_gpu: bool, processes: int) -> int:
    """Choose the number of loader processes.

    Reading from the cache takes about 50 microseconds per image, less than the overhead of a loader process.
    If images are decoded or augmented at every access (``heavy``), loader processes help on a GPU, which
    leaves the CPU idle; on a CPU they would compete with the training.

    Args:
        heavy: Whether an image takes milliseconds.
        on_gpu: Whether the training runs on a GPU.
        processes: Training processes that share the CPUs of this machine.
    """
    return max(0, min(8, usable_cpus() // processes - 1)) if heavy and on_gpu else 0


def _share(batch: Any) -> dict[str, Any]:
    """Move a loader process's batch into shared memory, which raises an error if that is full.

    Torch would move it in a thread later; the error would end the thread, and training would wait forever.
    """
    if get_worker_info() is not None:
        for item in batch.values():
            if isinstance(item, Tensor):
                item.share_memory_()
    return batch


class BatchLoader:
    """A DataLoader whose passes may start within an epoch.

    A pass asks for its position when its first batch is fetched, not when the iterator is created: Lightning
    creates the iterator of a resumed epoch before it knows how many batches are done.

    Args:
        dataset: Dataset to serve.
        plan: Batches of an epoch.
        position: Position at which to start.
        num_workers: Loader processes; 0 loads in this process.
        pin_memory: Whether batches are in page-locked memory.
    """

    def __init__(
        self,
        dataset: TifDataset | LatentDataset,
        plan: Plan,
        position: Position,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset, self._plan, self._position = dataset, plan, position
        self._batch_bytes: int | None = None  # in shared memory; measured when workers start
        self._keys: list[list[Key]] = []  # the DataLoader's batches, replaced before each pass
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._keys,
            collate_fn=_share,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        return len(self._plan(0))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, done = self._position()
        self._keys[:] = [[(epoch, index) for index in batch] for batch in self._plan(epoch)[done:]]
        if self._keys and self._loader.num_workers:
            self._require_shared_memory()
        try:
            yield from self._loader
        except DataError as error:
            # The message of a worker's exception includes that worker's traceback.
            raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None

    def _require_shared_memory(self) -> None:
        """Refuse to start workers whose batches do not fit into the shared memory: they would hang forever.

        Raises:
            DataError: The shared memory is too small.
        """
        if sys.platform != "linux" or not os.path.isdir(SHARED_MEMORY):
            return
        if self._batch_bytes is None:
            batch = self.dataset.__getitems__(self._keys[0])
            self._batch_bytes = sum(item.nbytes for item in batch.values() if isinstance(item, Tensor))
        workers, processes = self._loader.num_workers, int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        # Each worker prefetches batches; one more is in use.
        batches = min(workers * (self._loader.prefetch_factor or 0) + 1, len(self._keys))
        need, free = batches * processes * self._batch_bytes, shutil.disk_usage(SHARED_MEMORY).free
        if need > free:
            raise DataError(
                f"{SHARED_MEMORY}: found {free / 1e6:.3g} MB of free shared memory, expected "
                f"{need / 1e6:.3g} MB for the batches of {workers} loader processes. In a container, enlarge "
                "it (docker run --shm-size=8g, or --ipc=host); or set data.num_workers=0, or a smaller "
                "data.batch_size."
            )

    def close(self) -> None:
        """End the loader processes; another pass would start new ones.

        Garbage collection may remove a worker's queue before its loader, which then waits five seconds for
        each worker in turn.
        """
        iterator: Any = self._loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()
            self._loader._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state, which tells Lightning that this loader can resume (see ``position``)."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: ``position`` knows where to start."""
