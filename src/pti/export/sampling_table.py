"""A sampler as numbers: what other programs need to sample with the exported network.

Every step of the samplers here is linear in x, the network's output, the condition's latents and fresh noise:

    x ← x_factor·x + output_factor·output + source_factor·condition + Σ noise_factor·noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from pti.common.errors import UsageError
from pti.diffusion.formulation import DiffusionPath
from pti.diffusion.samplers import Sampler

LINEAR = ("euler", "ddim", "ddpm", "first_step")
"""Samplers whose steps evaluate the network once and depend on nothing before them."""

ONE_PASS: dict[str, Any] = {
    "start": {"source": 1.0, "noise": []},
    "steps": [{"timestep": 0.0, "x": 1.0, "output": 1.0, "source": 0.0, "noise": []}],
}
"""The table of a regression: the condition plus the network's output."""

NO_PASS: dict[str, Any] = {"start": {"source": 1.0, "noise": []}, "steps": []}
"""The table of an autoencoder: the latents themselves."""


def sampling_table(path: DiffusionPath, sampler: Sampler, steps: int) -> dict[str, Any]:
    """Return the numbers of a sampler on a path.

    Args:
        path: The path that the network was trained on.
        sampler: One of `LINEAR`, with its options bound.
        steps: Number of steps.

    Returns:
        ``start``: the factors of the condition's latents (``source``) and of noise; ``steps``: for each
        evaluation the network's ``timestep`` and the factors of ``x``, ``output`` and ``source``. ``noise``
        is a list: one factor for each draw of N(0, 1), in the order in which they are drawn.

    Raises:
        UsageError: The sampler is another one.
    """
    function = getattr(sampler, "func", sampler)
    name, options = function.__name__, getattr(sampler, "keywords", {})
    if name not in LINEAR:
        raise UsageError(
            f"sampler={name}: its steps can't be exported. Set sampler to one of {', '.join(LINEAR)}; "
            "euler needs no more steps than heun or dpm_solver needs evaluations."
        )
    ends = torch.eye(2, dtype=torch.float64)
    noise, source = path.start(ends[0], ends[1]).tolist()
    # Drawn even where its factor is 0, at the start of a bridge, as the sampler draws it.
    start = {"source": source, "noise": [noise]}
    if name == "first_step":
        return {"start": start, "steps": [_first_step(path, steps)]}
    eta = {"euler": 0.0, "ddpm": 1.0}.get(name, options.get("eta", 0.0))
    return {"start": start, "steps": _ddim(path, steps, eta)}


def _ddim(path: DiffusionPath, steps: int, eta: float) -> list[dict[str, Any]]:
    """Return the factors of each step of `pti.diffusion.samplers.ddim`."""
    schedule, rows = path.schedule(path.sampling_times(steps)), []
    for i in range(schedule.steps):
        timestep, estimate = _estimate(path, schedule.times[i])
        fresh = eta * schedule.ancestral_std(i)
        kept = math.sqrt(max(0.0, schedule.noise[i + 1] ** 2 - fresh**2))
        draws = [fresh] if fresh else []
        if schedule.noise[i] == 0:  # x holds no noise to estimate: the sampler draws it
            estimate, draws = replace(estimate, noise=torch.zeros(3, dtype=torch.float64)), [kept, *draws]
        rows.append(_row(timestep, schedule.interpolate_at(i + 1, estimate, kept), draws))
    return rows


def _first_step(path: DiffusionPath, steps: int) -> dict[str, Any]:
    timestep, estimate = _estimate(path, float(path.sampling_times(steps)[0]))
    return _row(timestep, estimate.x0, [])


def _estimate(path: DiffusionPath, time: float) -> tuple[float, Any]:
    """Return the network's timestep, and x0 and noise as factors of (x, output, source), (3,) each."""
    t = torch.tensor(time, dtype=torch.float64)
    x, output, source = torch.eye(3, dtype=torch.float64)
    return float(path.timesteps(t)), path.estimate(output, x, t, source)


def _row(timestep: float, factors: torch.Tensor, noise: list[float]) -> dict[str, Any]:
    x, output, source = factors.tolist()
    return {"timestep": timestep, "x": x, "output": output, "source": source, "noise": noise}
