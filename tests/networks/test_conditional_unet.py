"""The conditional UNet: how the condition reaches it, and that its switches change nothing else."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pti.networks.conditional_unet import ConditionalUNet, ConditionTokens, position_code
from pti.networks.ema import Ema


def unet(conditioning: str = "concat", **options: Any) -> ConditionalUNet:
    """A tiny one. Layers that start at zero, and so hide everything before them, are filled."""
    torch.manual_seed(0)
    sizes = {"channels": (4, 8), "attention_levels": (False, True), "num_res_blocks": 1}
    sizes |= {"num_head_channels": 4, "norm_num_groups": 2, "cross_attention_dim": 8}
    network = ConditionalUNet(latent_channels=4, conditioning=conditioning, **sizes, **options)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, condition = torch.randn(2, 2, 4, 8, 8, generator=generator)
    return x, torch.tensor([10.0, 900.0]), condition


def shuffled(condition: Tensor) -> Tensor:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    return condition.flatten(2)[..., order].view_as(condition)


@torch.no_grad()
@pytest.mark.parametrize(
    ("conditioning", "position", "matters"),
    [
        ("cross_attention", "none", False),
        ("cross_attention", "sincos", True),
        ("both", "none", True),
        ("both", "sincos", True),
        ("concat", "sincos", True),
        ("none", "sincos", False),
    ],
)
def test_where_the_conditions_positions_matter(conditioning: str, position: str, matters: bool):
    network = unet(conditioning, position=position)
    x, timesteps, condition = inputs()
    change = network(x, timesteps, shuffled(condition)) - network(x, timesteps, condition)
    assert (float(change.abs().max()) > 1e-3) == matters


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["concat", "cross_attention", "both", "none"])
def test_what_the_output_depends_on(conditioning: str):
    network = unet(conditioning)
    x, timesteps, condition = inputs()
    output = network(x, timesteps, condition)
    assert output.shape == x.shape
    depends = bool((network(x, timesteps, condition + 1) != output).any())
    assert depends == (conditioning != "none")
    assert (network(x, timesteps.flip(0), condition) != output).any()
    alone = network(x[1:], timesteps[1:], condition[1:])
    torch.testing.assert_close(alone, output[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["concat", "cross_attention", "both", "none"])
def test_maps_beside_the_conditions_latents_reach_the_network(conditioning: str):
    network = unet(conditioning, condition_maps=2)
    x, timesteps, condition = inputs()
    maps = torch.zeros(2, 2, 8, 8)
    output = network(x, timesteps, torch.cat([condition, maps], 1))
    assert output.shape == x.shape
    for channel in range(2):
        changed = maps.clone()
        changed[:, channel] = 1
        assert (network(x, timesteps, torch.cat([condition, changed], 1)) != output).any()


class FirstChannels(torch.nn.Module):
    """Answers the part of its input that came from x."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None) -> Tensor:
        del timesteps, context
        assert x.shape[-2:] == (4, 4)
        return x[:, :16]


@torch.no_grad()
@pytest.mark.parametrize("conditioning", ["concat", "cross_attention"])
def test_patches_come_back_to_where_they_were(conditioning: str):
    network = unet(conditioning, patch_size=2)
    assert network.downsampling == 4
    x, timesteps, condition = inputs()
    assert network(x, timesteps, condition).shape == x.shape
    network.unet = FirstChannels()  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(network(x, timesteps, condition), x)


@torch.no_grad()
def test_a_new_network_answers_zero():
    torch.manual_seed(0)
    network = ConditionalUNet(
        channels=(4, 8), attention_levels=(False, False), norm_num_groups=2, num_head_channels=4
    )
    assert not network(*inputs()).any()


def gradients(network: ConditionalUNet) -> tuple[Tensor, dict[str, Tensor]]:
    output = network(*inputs())
    output.square().sum().backward()
    return output, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("switch", "tolerance"), [("use_checkpoint", 0.0), ("use_flash_attention", 1e-4)])
@pytest.mark.parametrize("conditioning", ["concat", "both"])
def test_a_switch_for_memory_changes_no_result(conditioning: str, switch: str, tolerance: float):
    plain, other = unet(conditioning), unet(conditioning, **{switch: True})
    assert list(plain.state_dict()) == list(other.state_dict())
    (output, expected), (found_output, found) = gradients(plain), gradients(other)
    torch.testing.assert_close(found_output, output, rtol=tolerance, atol=tolerance)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=tolerance, atol=tolerance * 10)


def test_use_checkpoint_keeps_less():
    kept = []
    for use_checkpoint in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t
        ):
            unet(use_checkpoint=use_checkpoint)(*inputs())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_the_average_of_a_checkpointed_network_is_one_of_its_own():
    network = unet(use_checkpoint=True)
    ema, twin = Ema(network, 0.5), copy.deepcopy(network)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
        x, timesteps, condition = inputs()
        changed = network(x, timesteps, condition)
        for copied in (ema.model, twin):
            assert all(torch.equal(p, b) for p, b in zip(copied.parameters(), before, strict=True))
            assert not torch.allclose(copied(x, timesteps, condition), changed)


def test_position_codes_tell_all_places_apart():
    code = position_code(8, 6, 16, torch.device("cpu"))
    assert code.shape == (48, 16)
    assert float(torch.cdist(code, code).fill_diagonal_(1.0).min()) > 0.1
    grid = code.view(8, 6, 16)
    assert torch.equal(grid[:, 0, :8], grid[:, 5, :8])  # a row's half knows no column
    assert torch.equal(grid[0, :, 8:], grid[7, :, 8:])


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: unet("film"), "conditioning=film"),
        (lambda: unet("both", position="learnt"), "position=learnt"),
        (lambda: ConditionTokens(4, dim=6), "dim=6"),
    ],
)
def test_unknown_options_are_refused(build: Any, named: str):
    with pytest.raises(ValueError, match=named):
        build()


@torch.no_grad()
def test_a_change_gate_keeps_the_condition_or_replaces_it():
    network, (x, timesteps, condition) = unet(change_gate=True), inputs()
    bias = network.unet.get_parameter("out.2.conv.bias")
    assert network(x, timesteps, condition).shape == condition.shape
    bias[-1] = -1e3
    assert not network(x, timesteps, condition).any()
    bias[-1] = 1e3
    value = network(x, timesteps, condition) + condition
    bias[:4] += 1.0
    torch.testing.assert_close(network(x, timesteps, condition) + condition, value + 1.0)
