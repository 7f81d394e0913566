"""Building a latent cache: waiting for another run, without two runs waiting for each other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pti.data.latent_cache import LatentCache
from pti.modules.latent_space.preparation import build_cache
from pti.runs.lock import exclusive

SHAPE = (1, 2, 2)


class Images:
    """Four pairs without content."""

    def __len__(self) -> int:
        return 4

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return keys


def encode(keys: Any) -> torch.Tensor:
    return torch.stack([torch.full((3, *SHAPE), float(index)) for _, index in keys])


class Run:
    """The collective operations of a run with one rank on each node; a thread stands for a rank."""

    def __init__(self, nodes: int) -> None:
        self.nodes, self.values, self.ready = nodes, [0] * nodes, Barrier(nodes)

    def gather(self, rank: int, value: int) -> list[int]:
        self.values[rank] = value
        self.ready.wait()
        gathered = list(self.values)
        self.ready.wait()
        return gathered

    def trainer(self, rank: int) -> Any:
        strategy = SimpleNamespace(
            root_device=torch.device("cpu"),
            barrier=lambda name: self.ready.wait(),
            all_gather=lambda flag: torch.tensor(self.gather(rank, int(flag))),
            reduce_boolean_decision=lambda decision, all: min(self.gather(rank, decision)) == 1,
        )
        numbers = {"num_nodes": self.nodes, "num_devices": 1, "node_rank": rank, "global_rank": rank}
        own = {"local_rank": 0, "world_size": self.nodes, "is_global_zero": rank == 0}
        return SimpleNamespace(strategy=strategy, **numbers, **own)


def cache_in(folder: Path) -> LatentCache:
    return LatentCache(folder, Images(), views=2)  # pyright: ignore[reportArgumentType]


def assert_complete(cache: LatentCache) -> None:
    for view in range(2):
        assert np.array_equal(np.load(cache.array(view).path), encode([(view, i) for i in range(4)]).numpy())


@pytest.mark.timeout(60)
def test_two_runs_on_the_same_nodes_do_not_wait_for_each_other_forever(tmp_path: Path):
    """Each run's first node shares a disk with the other run's second one."""
    with ThreadPoolExecutor(4) as pool:
        runs = [(Run(2), ("a", "b")), (Run(2), ("b", "a"))]
        work = [
            pool.submit(build_cache, cache_in(tmp_path / disk), encode, SHAPE, run.trainer(rank))
            for run, disks in runs
            for rank, disk in enumerate(disks)
        ]
        for one in work:
            one.result(50)
    for disk in ("a", "b"):
        assert_complete(cache_in(tmp_path / disk))


@pytest.mark.timeout(60)
def test_a_run_waits_for_the_one_that_encodes_the_same_and_keeps_no_other_lock(tmp_path: Path):
    run = Run(2)
    with ThreadPoolExecutor(2) as pool:
        with exclusive(tmp_path / "b", "held by another run"):
            work = [
                pool.submit(build_cache, cache_in(tmp_path / disk), encode, SHAPE, run.trainer(rank))
                for rank, disk in enumerate(("a", "b"))
            ]
            with exclusive(tmp_path / "a", "", wait=True):
                assert not list(tmp_path.rglob("view_*"))
        for one in work:
            one.result(50)
    for disk in ("a", "b"):
        assert_complete(cache_in(tmp_path / disk))
