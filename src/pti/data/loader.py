"""Batches from worker processes, from a given position of an epoch on."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from pti.common.errors import DataError
from pti.common.processes import usable_cpus
from pti.data.dataset import Key, TifDataset
from pti.data.latent_cache import LatentDataset

Plan = Callable[[int], list[list[int]]]
"""epoch -> sample indices of each batch."""

Position = Callable[[], tuple[int, int]]
"""-> (epoch, number of its batches that are done)."""


def auto_workers(heavy: bool, on_gpu: bool, processes: int) -> int:
    """How many worker processes pay.

    Reading from the cache takes some 50 microseconds an image: a worker's overhead is more. Where images are
    decoded or augmented each time (``heavy``) workers pay if there is something else to do meanwhile, that is
    on a GPU; on a CPU they take their cores from the training.

    Args:
        heavy: whether an image takes milliseconds.
        on_gpu: whether training leaves the CPU idle.
        processes: training processes on this machine, which share its CPUs.
    """
    return max(0, min(8, usable_cpus() // processes - 1)) if heavy and on_gpu else 0


class BatchLoader:
    """A DataLoader that starts each pass where it is told to.

    Where the pass starts is asked when its first batch is fetched, not when the iterator is made: Lightning
    makes the iterator of a resumed epoch before it has settled how many batches of it are done.

    Args:
        dataset: what is served.
        plan: the batches of an epoch.
        position: where to start.
        num_workers: worker processes; 0 loads in this one.
        options: passed on to the DataLoader.
    """

    def __init__(
        self,
        dataset: TifDataset | LatentDataset,
        plan: Plan,
        position: Position = lambda: (0, 0),
        num_workers: int = 0,
        **options: Any,
    ) -> None:
        self.dataset, self._plan, self._position = dataset, plan, position
        self._keys: list[list[Key]] = []
        self._loader: DataLoader | None = DataLoader(
            dataset,
            batch_sampler=_Listed(self._keys),
            collate_fn=_as_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            **options,
        )

    def __len__(self) -> int:
        return len(self._plan(0))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._loader is None:
            raise RuntimeError("this loader has been closed")
        epoch, done = self._position()
        self._keys[:] = [[(epoch, index) for index in batch] for batch in self._plan(epoch)[done:]]
        try:
            yield from self._loader
        except DataError as error:
            # Out of a worker it comes wrapped in that worker's traceback.
            raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None

    def close(self) -> None:
        """End the worker processes; the loader can't be used again.

        By hand, because garbage collection may take a worker's queue before its loader: then the loader waits
        five seconds for each worker, one after the other.
        """
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
        self._loader = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing: `position` knows. The method tells Lightning that this loader can resume."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load."""


class _Listed:
    """A batch sampler over a list that is filled before each pass."""

    def __init__(self, keys: list[list[Key]]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(list(self.keys))

    def __len__(self) -> int:
        return len(self.keys)


def _as_is(batch: Any) -> Any:
    return batch
