"""The table of a sampler gives, step by step, what the sampler itself computes."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pti.common.errors import UsageError
from pti.diffusion import samplers
from pti.diffusion.formulation import DiffusionPath
from pti.diffusion.paths import BrownianBridge, Cosine, RectifiedFlow, ScaledLinear
from pti.export.sampling_table import sampling_table

PATHS: dict[str, DiffusionPath] = {
    "epsilon": ScaledLinear(),
    "v, zero terminal": Cosine(zero_terminal_snr=True),
    "sample": ScaledLinear("sample", spacing="even"),
    "flow": RectifiedFlow(),
    "flow from the condition": RectifiedFlow("change", start="condition", noise_std=0.5, spacing="quadratic"),
    "velocity from the condition": RectifiedFlow("velocity", start="condition", noise_std=0.3),
    "bridge": BrownianBridge(),
    "bridge, change": BrownianBridge("change"),
}
SAMPLERS: dict[str, Any] = {
    "euler": samplers.euler,
    "ddim": samplers.ddim,
    "ddim with noise": partial(samplers.ddim, eta=0.5),
    "ddpm": samplers.ddpm,
    "first_step": samplers.first_step,
}


def network(x: Tensor, timesteps: Tensor) -> Tensor:
    return torch.tanh(1.3 * x + timesteps.reshape(-1, 1) / 1000)


def run_table(table: dict[str, Any], source: Tensor, draw) -> Tensor:
    start = table["start"]
    x = start["source"] * source + sum(factor * draw() for factor in start["noise"])
    for step in table["steps"]:
        output = network(x, torch.full((len(x),), step["timestep"]))
        x = step["x"] * x + step["output"] * output + step["source"] * source
        x = x + sum(factor * draw() for factor in step["noise"])
    return x


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_table_repeats_its_sampler(path, sampler, steps):
    source = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(3, 4)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    noise = torch.randn(3, 4, generator=one, dtype=torch.float64)
    expected = samplers.sample(PATHS[path], network, SAMPLERS[sampler], steps, noise, one, source=source)
    table = sampling_table(PATHS[path], SAMPLERS[sampler], steps)
    assert len(table["steps"]) == (1 if sampler == "first_step" else steps)

    def draw() -> Tensor:
        return torch.randn(3, 4, generator=other, dtype=torch.float64)

    found = run_table(table, source, draw)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    # The same numbers were drawn, neither more nor fewer.
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("sampler", [samplers.heun, samplers.dpm_solver])
def test_samplers_that_are_not_linear_in_one_evaluation_are_refused(sampler):
    with pytest.raises(UsageError, match=f"sampler={sampler.__name__}.*euler"):
        sampling_table(RectifiedFlow(), sampler, 5)
