"""The autoencoder with a discrete cosine transform beside encoder and decoder."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from pti.common.errors import UsageError
from pti.networks.dct_autoencoder import DctAutoencoderKL


def autoencoder(latent_channels: int = 8) -> DctAutoencoderKL:
    torch.manual_seed(0)
    return DctAutoencoderKL(
        spatial_dims=2,
        channels=(4, 8, 8),
        num_res_blocks=1,
        attention_levels=(False, False, False),
        latent_channels=latent_channels,
        norm_num_groups=2,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def images(count: int = 2, side: int = 16) -> Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_with_as_many_channels_as_pixels_an_untrained_one_loses_nothing():
    network, image = autoencoder(16), images()
    mean, std = network.encode(image)
    assert mean.shape == std.shape == (2, 16, 4, 4)
    torch.testing.assert_close(network.decode(mean), image, rtol=0, atol=1e-5)
    assert 0 < float(std.max()) < 0.1


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_an_untrained_one_keeps_the_lowest_frequencies_of_each_patch(channels: int):
    network, image = autoencoder(channels), images(1, side=4)
    decoded = network.decode(network.encode(image)[0])
    kept, given = (np.asarray(dctn(one[0, 0].numpy(), norm="ortho")) for one in (decoded, image))
    norms = np.hypot(*np.indices((4, 4)))
    same = np.isclose(kept, given, atol=1e-5)
    assert same.sum() == channels
    assert norms[same].max() <= norms[~same].min()
    np.testing.assert_allclose(kept[~same], 0, atol=1e-5)


def test_training_reaches_every_layer():
    network, image = autoencoder(), images()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        mean, std = network.encode(image)
        (network.decode(mean + std) - image).square().mean().backward()
        optimizer.step()
    unchanged = [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])]
    assert not unchanged


@torch.no_grad()
def test_the_transform_keeps_its_precision_under_autocast():
    network, image = autoencoder(16), images()
    with torch.autocast("cpu", torch.bfloat16):
        decoded = network.decode(network.encode(image)[0])
    torch.testing.assert_close(decoded, image, rtol=0, atol=1e-5)


def test_more_channels_than_pixels_in_a_patch_are_refused():
    with pytest.raises(UsageError, match=r"latent_channels=17: .* 4 × 4 pixels.*Set 1 to 16"):
        autoencoder(17)
