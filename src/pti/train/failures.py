"""Failures of training: library errors turned into user errors, and errors passed from rank to launcher."""

from __future__ import annotations

import json
import signal
import time
import traceback
from pathlib import Path

from pti.common.errors import DataError, UsageError, with_causes
from pti.common.files import write_text_atomically

_USER_ERRORS = {"UsageError": UsageError, "DataError": DataError}
_LOGGER_FIXES = {
    "mlflow": "Check logger.mlflow.tracking_uri, and whether its server runs.",
    "wandb": "Run `wandb login`, or keep the data on this machine: set logger.wandb.offline=true.",
}
"""Package of a logger -> what to do about its errors."""
_TAIL = 8  # lines of a rank's log that a message quotes


def to_user_error(error: Exception) -> Exception:
    """Replace a library's error by a `DataError` that names the setting to change; return others unchanged.

    The causes of the error are examined too: torch raises the death of a loader process in the main thread,
    wherever it is at the time, so that other code may catch this error and raise another one.
    """
    if isinstance(error, (UsageError, DataError)):
        return error
    for cause in with_causes(error):
        first_line = next(iter(str(cause).splitlines()), "")
        if fix := _LOGGER_FIXES.get(package := type(cause).__module__.split(".")[0]):
            return UsageError(f"logger={package}: {first_line.rstrip('.')}. {fix}")
        if type(cause).__name__ == "OutOfMemoryError":
            return DataError(
                f"The device is out of memory ({first_line}). Lower data.batch_size (and raise "
                "model.accumulate_grad_batches), or set trainer.precision=bf16-mixed."
            )
        if isinstance(cause, RuntimeError) and ("shared memory" in str(cause) or "Bus error" in str(cause)):
            lines = [line for line in str(cause).splitlines() if "shared memory" in line] or [first_line]
            return DataError(
                f"The shared memory of the processes that load images is full ({lines[-1]}). In a container, "
                "enlarge it (docker run --shm-size=8g, or --ipc=host), or set data.num_workers=0; then "
                "continue with ckpt_path=last."
            )
        if isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):
            return DataError(
                f"A process that loads images was killed ({first_line}); the machine may be out of memory. "
                "Lower data.num_workers, then continue with ckpt_path=last."
            )
    return error


def write_failure(output_dir: Path, rank: int, error: BaseException) -> None:
    """Leave the error of a rank in a file for the launcher; call this while it is handled."""
    failure = {
        "rank": rank,
        "time": time.time(),
        "kind": next((name for name, kind in _USER_ERRORS.items() if isinstance(error, kind)), None),
        "message": str(error),
        "traceback": traceback.format_exc(),
        "lost_peer": "Connection" in str(error) or "peer" in str(error),
    }
    write_text_atomically(output_dir / f".failure_{rank}.json", json.dumps(failure))


def first_failure(output_dir: Path, codes: list[int | None]) -> Exception:
    """Return the error that occurred first, once all ranks have ended, and delete their error files.

    The errors of the other ranks say that they lost a peer; a killed process leaves no error.

    Args:
        output_dir: folder of the ranks' errors and logs.
        codes: exit codes of the ranks; None for a rank that had to be killed because of the others.
    """
    paths = list(output_dir.glob(".failure_*.json"))
    failures = sorted((json.loads(path.read_text()) for path in paths), key=lambda failure: failure["time"])
    for path in paths:
        path.unlink()
    first = next((failure for failure in failures if not failure["lost_peer"]), None)
    killed = next((rank for rank, code in enumerate(codes) if code is not None and code < 0), None)
    if first is None and killed is not None:
        name = signal.Signals(-(codes[killed] or 0)).name
        return DataError(
            f"The process of rank {killed} was ended by {name} from outside (out of memory?); the other "
            f"ranks were stopped. Its output: {_tail(output_dir, killed)}"
            "ckpt_path=last continues from the last checkpoint."
        )
    if not failures:
        rank = next(rank for rank, code in enumerate(codes) if code)
        return DataError(
            f"Rank {rank} ended with exit code {codes[rank]}. Its output: {_tail(output_dir, rank)}"
        )
    first = first or failures[0]
    if first["kind"] is not None:
        return _USER_ERRORS[first["kind"]](first["message"])
    return DataError(
        f"Rank {first['rank']} failed, and the other ranks were stopped:\n{first['traceback'].rstrip()}\n"
        f"ckpt_path=last continues from the last checkpoint, if {output_dir / 'checkpoints'} holds one."
    )


def _tail(output_dir: Path, rank: int) -> str:
    path = output_dir / f"rank_{rank}.log"
    lines = path.read_text(errors="replace").splitlines()[-_TAIL:] if path.is_file() else []
    return "\n" + "".join(f"  {line}\n" for line in lines) if lines else "none. "
