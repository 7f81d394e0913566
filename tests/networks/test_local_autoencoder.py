"""The local autoencoder: latents depend on their surroundings alone."""

import pytest
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor, nn

from pti.networks.local_autoencoder import LocalAutoencoderKL, PositionNorm


def autoencoder(kind: type[AutoencoderKL]) -> AutoencoderKL:
    torch.manual_seed(0)
    return kind(
        spatial_dims=2,
        channels=(4, 8),
        num_res_blocks=1,
        attention_levels=(False, False),
        latent_channels=2,
        norm_num_groups=2,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()


def a_far_change(side: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Two inputs that differ in their upper rows only."""
    one = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))
    other = one.clone()
    other[..., : side // 4, :] += 3.0
    return one, other


@torch.no_grad()
@pytest.mark.parametrize(("kind", "local"), [(LocalAutoencoderKL, True), (AutoencoderKL, False)])
def test_whether_a_change_far_away_changes_latents_and_images(kind: type[AutoencoderKL], local: bool):
    network = autoencoder(kind)
    for part, (one, other) in (
        (lambda x: network.encode(x)[0], a_far_change(64)),
        (network.decode, a_far_change(32, channels=2)),
    ):
        before, after = part(one), part(other)
        below = before.shape[-1] * 3 // 4
        assert not torch.equal(before, after)
        assert torch.equal(before[..., below:, :], after[..., below:, :]) == local


def test_its_state_dict_has_the_names_of_monais():
    local, plain = (autoencoder(kind) for kind in (LocalAutoencoderKL, AutoencoderKL))
    assert list(local.state_dict()) == list(plain.state_dict())
    local.load_state_dict(plain.state_dict())
    assert not any(isinstance(module, nn.GroupNorm) for module in local.modules())
    assert any(isinstance(module, PositionNorm) for module in local.modules())


def test_position_norm_is_layer_normalisation_over_channels():
    x = 5 + 3 * torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(0))
    norm = PositionNorm(8)
    found = norm(x)
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 4, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(1, unbiased=False), torch.ones(2, 4, 5), rtol=1e-4, atol=0)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(8.0))
        norm.bias.copy_(-torch.arange(8.0))
    scale = torch.arange(8.0).view(1, 8, 1, 1)
    torch.testing.assert_close(norm(x), found * scale - scale)
