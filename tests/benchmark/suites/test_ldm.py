"""The plain loop of stage 2 has the loss of ours."""

from pathlib import Path

import pytest
import torch

from helpers.benchmark_setup import small_settings
from pti.benchmark.suites.ldm import PlainDiffusion, ldm_suite
from pti.diffusion.paths import ScaledLinear
from pti.networks.conditional_unet import ConditionalUNet


def network() -> ConditionalUNet:
    torch.manual_seed(0)
    return ConditionalUNet(
        conditioning="cross_attention",
        position="none",
        cross_attention_dim=16,
        channels=(8, 16),
        attention_levels=(False, True),
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=4,
    )


def test_both_sides_have_the_same_loss():
    unet, path = network(), ScaledLinear()
    plain = PlainDiffusion(None, unet, scale=1.0)
    condition, x0, noise = torch.randn(3, 2, 4, 8, 8)
    steps = torch.tensor([17, 900])
    pair = path.training_pair(x0, noise, (steps.double() + 1) / 1000, source=condition)
    torch.testing.assert_close(pair.timesteps, steps.float())
    expected = (unet(pair.x_t, pair.timesteps, condition) - pair.target).square().mean()
    torch.testing.assert_close(plain.loss(condition, x0, steps, noise), expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_the_plain_loop_encodes_both_images_and_trains():
    encoded: list[int] = []

    class Encoder:
        def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            encoded.append(len(image))
            return torch.zeros(len(image), 4, 8, 8), torch.ones(len(image), 4, 8, 8)

    unet = network()
    before = [p.detach().clone() for p in unet.parameters()]
    assert PlainDiffusion(Encoder(), unet, scale=0.5).step(*torch.rand(2, 3, 1, 32, 32)) > 0
    assert encoded == [3, 3]
    assert any((p != old).any() for p, old in zip(unet.parameters(), before, strict=True))


@pytest.mark.slow
def test_every_side_runs(tmp_path: Path):
    with small_settings(tmp_path, batch_size=2) as settings:
        (comparison,) = ldm_suite(settings)
        assert comparison.items == 2
        for side in comparison.sides:
            side.build().run()
