"""One of several training processes: what it runs, how it follows its parent, the error that it leaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pti.common.errors import DataError, UsageError
from pti.common.files import write_text_atomically

STARTED_BY = "PTI_LAUNCHER"
"""In the environment of a rank: the process id of its parent."""

GRACE_AFTER_SIGNAL = 25.0
"""Seconds in which training ends its batch and writes a checkpoint."""


def run_rank(work: Callable[[], int], output_dir: Path) -> int:
    """Run one rank's ``work``; leave its error for the parent to show.

    The process ends with ``work`` when the parent is gone.
    """
    rank = int(os.environ["LOCAL_RANK"])
    threading.Thread(target=_follow_parent, args=(int(os.environ[STARTED_BY]),), daemon=True).start()
    try:
        return work()
    except BaseException as error:
        known = next((kind for kind in (UsageError, DataError) if isinstance(error, kind)), None)
        failure: dict[str, Any] = {
            "rank": rank,
            "time": time.time(),
            "kind": known.__name__ if known else type(error).__name__,
            "message": str(error),
            "traceback": traceback.format_exc(),
            "lost_peer": "Connection" in str(error) or "peer" in str(error),
        }
        write_text_atomically(output_dir / f".failure_{rank}.json", json.dumps(failure))
        return 1


def _follow_parent(parent: int) -> None:
    """When the parent has gone, end as on SIGTERM: with a checkpoint, and in any case soon."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_AFTER_SIGNAL)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    """The entry of a rank: ``python -m pti.train.rank CONFIG OUTPUT_DIR ARGUMENTS_OF_TRAIN…``."""
    config_file, output_dir = Path(sys.argv[1]), Path(sys.argv[2])
    sys.argv = ["pti train", *sys.argv[3:]]  # what summary.json records

    def work() -> int:
        from omegaconf import DictConfig, OmegaConf

        from pti.train.run import train

        config = OmegaConf.load(config_file)
        assert isinstance(config, DictConfig)
        return train(config, output_dir)

    code = run_rank(work, output_dir)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's own end may wait for threads that talk to processes which are gone.
    os._exit(code)


def first_failure(output_dir: Path, codes: list[int | None]) -> Exception:
    """The error that came first, once all ranks have ended.

    The others have lost their peer; a killed process leaves no error behind.

    Args:
        output_dir: where the ranks have left their errors and logs.
        codes: exit codes of the ranks; None for one that had to be killed because of the others.
    """
    paths = list(output_dir.glob(".failure_*.json"))
    failures = sorted((json.loads(path.read_text()) for path in paths), key=lambda found: found["time"])
    for path in paths:
        path.unlink()
    killed = [(rank, -code) for rank, code in enumerate(codes) if code is not None and code < 0]
    if killed and all(failure["lost_peer"] for failure in failures):
        rank, signum = killed[0]
        name = signal.Signals(signum).name
        return DataError(
            f"The process of rank {rank} was ended by {name} from outside (killed for lack of memory?); the "
            f"others were stopped. Its output: {_tail(output_dir, rank)}"
            "ckpt_path=last goes on from the last checkpoint."
        )
    if not failures:
        rank = next(index for index, code in enumerate(codes) if code)
        return DataError(
            f"Rank {rank} ended with exit code {codes[rank]}. Its output: {_tail(output_dir, rank)}"
        )
    first = next((failure for failure in failures if not failure["lost_peer"]), failures[0])
    if first["kind"] in ("UsageError", "DataError"):
        return {"UsageError": UsageError, "DataError": DataError}[first["kind"]](first["message"])
    return DataError(
        f"Rank {first['rank']} failed, and the others were stopped:\n{first['traceback'].rstrip()}\n"
        f"ckpt_path=last goes on from the last checkpoint, if there is one in {output_dir / 'checkpoints'}."
    )


def _tail(output_dir: Path, rank: int, lines: int = 8) -> str:
    path = output_dir / f"rank_{rank}.log"
    text = path.read_text(errors="replace").splitlines()[-lines:] if path.is_file() else []
    return "\n" + "".join(f"  {line}\n" for line in text) if text else "none. "


if __name__ == "__main__":
    main()
