"""Search for the largest batch size that fits on the GPUs (``data.batch_size=auto``).

Short trainings are tried with growing batches, one process for each device: what they leave in the memory of
a GPU, and a process that the system kills, does not touch the training. Lightning's batch size finder works
with one device only, and inside the training whose state it changes.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pti.common.errors import DataError, UsageError, with_causes
from pti.common.terminal import tolerate_encoding
from pti.train.failures import first_failure, write_failure

AUTO = "auto"
LARGEST = 1024
"""Largest batch size that is tried."""

_BATCHES = 3  # the optimizers' states exist from the second one on
_MEMORY = 0.95  # share of a GPU's memory; the rest is for fragmentation and callbacks


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest size that fits, to within an eighth of it.

    Args:
        fits: Whether a size fits; true up to some size, and false above.
        limit: Largest size to try.

    Returns:
        0 if not even 1 fits.
    """
    good, bad = 0, 1
    while bad <= limit and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, limit + 1)
    while bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def choose_batch_size(config: Mapping[str, Any], devices: Sequence[int]) -> int:
    """Return the largest batch size that fits on every device.

    Args:
        config: ``conf/train.yaml``, composed, plain.
        devices: Numbers of the devices.

    Raises:
        DataError: Not even one sample fits, or a process was killed.
        UsageError, DataError: The training itself would fail.
    """
    where = "the GPU" if len(devices) == 1 else f"each of {len(devices)} GPUs"
    print(f"Searching for the largest batch size that fits on {where} …", flush=True)
    config = {**config, "data": {**config["data"], "batch_size": 1}}
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "config.json").write_text(json.dumps(config))
        for device in devices:  # in turn: the first one builds the caches
            command = [sys.executable, "-m", "pti.train.batch_size", folder, str(device), str(len(devices))]
            environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
            code = subprocess.run(command, env=environment, check=False).returncode
            if code:
                raise first_failure(path, [code])
            sizes.append(int((path / f"{device}.txt").read_text()))
    size = min(sizes)
    if size == 0:
        raise DataError(
            "data.batch_size=auto: not even one sample fits on the device. Use smaller images "
            "(data.image_size) or networks, or set trainer.precision=bf16-mixed."
        )
    print(f"data.batch_size={size} is the largest that fits.", flush=True)
    return size


def gpus(trainer: Mapping[Any, Any], count: int) -> list[int]:
    """Return the numbers of the GPUs that a training uses.

    Args:
        trainer: ``conf/trainer``, composed.
        count: Their number.

    Raises:
        UsageError: It uses none.
    """
    import torch

    on_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if trainer.get("accelerator") == "cpu" or not on_gpu:
        raise UsageError(
            "data.batch_size=auto measures what fits on a GPU. This training runs on the CPU, where a batch "
            "that is too large slows the machine down instead of failing. Set data.batch_size=8, or another "
            "number."
        )
    chosen: Any = trainer.get("devices")
    listed = isinstance(chosen, Sequence) and not isinstance(chosen, str)
    return [int(number) for number in chosen] if listed else list(range(count))


def main() -> None:
    """Search on one device: ``python -m pti.train.batch_size FOLDER DEVICE DEVICES``."""
    tolerate_encoding()
    folder, device, devices = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        size = _search(json.loads((folder / "config.json").read_text()), folder, device, devices)
        (folder / f"{device}.txt").write_text(str(size))
    except Exception as error:
        write_failure(folder, device, error)
        sys.exit(1)


def _search(config: dict[str, Any], folder: Path, device: int, devices: int) -> int:
    import torch

    from pti.modules.adversarial_vae import AdversarialVAE
    from pti.train.quiet import hide_warnings
    from pti.train.run import build_parts

    hide_warnings()
    if torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu":
        torch.cuda.set_per_process_memory_fraction(_MEMORY, device)
    data, module = build_parts(config)
    if isinstance(module, AdversarialVAE):
        module.disc_start = 0  # the discriminator needs memory from its start on
    data.prepare_data()
    data.setup("fit")
    limit = min(LARGEST, len(data.training_set()) // devices)

    def fits(size: int) -> bool:
        data.batch_size = size
        found = _trains(config["trainer"], module, data, folder, device)
        module.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"Batch size {size}: {'fits' if found else 'does not fit'}.", flush=True)
        return found

    return largest(fits, limit)


def _trains(settings: dict[str, Any], module: Any, data: Any, folder: Path, device: int) -> bool:
    """Train a few batches and validate one; return False if the device's memory is too small."""
    from lightning import Trainer

    on_cuda = settings["accelerator"] != "cpu" and _has_cuda()
    trainer = Trainer(
        accelerator=settings["accelerator"],
        devices=[device] if on_cuda else 1,
        precision=settings["precision"],
        max_epochs=1,
        limit_train_batches=_BATCHES,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(folder),
    )
    try:
        trainer.fit(module, data)
    except Exception as error:
        if not any(_is_out_of_memory(cause) for cause in with_causes(error)):
            raise
        return False
    return True


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _is_out_of_memory(error: BaseException) -> bool:
    from lightning.pytorch.utilities.memory import is_oom_error

    known = isinstance(error, RuntimeError) and is_oom_error(error)
    return known or type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()


def _end_with(parent: int) -> None:
    """End when the process that waits for the result has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
