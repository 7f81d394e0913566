"""The device that work is measured on: its clock, its FLOPs, its memory, its rate of matrix products."""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MATMUL_RUNS = 7

_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all work that it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what the work inside prints, also its progress bars; show it if the work fails."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except Exception:
        print(printed.getvalue(), file=sys.stderr, end="")
        raise


def count_flops(run: Callable[[], object]) -> float:
    """Count the FLOPs of convolutions, matrix products and attention in a run, by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def matmul_rates(device: torch.device) -> dict[str, float]:
    """Measure the device's rate of square matrix products, in FLOPs per second.

    Returns:
        ``float32`` without TF32, and on a GPU also ``bfloat16``: the highest median over several sizes.
    """
    import torch

    from pti.common.precision import full_precision

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    sizes = (512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192)
    rates = {}
    for name, dtype in kinds.items():
        if name == "float32" or device.type == "cuda":
            with full_precision():
                rates[name] = max(_matmul_rate(device, dtype, size) for size in sizes)
    return rates


def _matmul_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    import torch

    one, other = torch.rand(2, size, size, device=device).to(dtype)
    out = torch.empty_like(one)
    seconds = []
    for _ in range(_MATMUL_RUNS + 1):
        synchronize(device)
        start = time.perf_counter()
        torch.mm(one, other, out=out)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[1:])


def peak_process_mb(command: Sequence[str]) -> float:
    """Run a command and return the peak resident memory of it or its largest child process, in MB.

    Raises:
        RuntimeError: The command failed.
    """
    # A new process inherits the peak of the one that starts it: a small one in between keeps ours out.
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{done.stderr}")
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes there, KiB on Linux


def peak_gpu_mb() -> float | None:
    """Return the peak memory of this process's tensors on the GPU, in MB; None if it has not used CUDA."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / 1e6


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Describe the device and the machine in plain values."""
    import os
    import platform

    import torch

    from pti.common.processes import usable_cpus

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": usable_cpus(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    import platform

    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
