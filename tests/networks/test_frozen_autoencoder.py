"""The frozen autoencoder: it stays as it is, in mode, weights and precision, and is known by its content."""

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor

from pti.data.normalization import MaskedZScore, Normalization, RangeNormalization
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.local_autoencoder import LocalAutoencoderKL


def raw_images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    raw = torch.zeros(2, 1, 16, 16)
    raw[..., 4:12, 4:12] = 500 + 100 * torch.rand(2, 1, 8, 8, generator=generator)
    return raw


def frozen(kind: type[AutoencoderKL] = AutoencoderKL, normalization: Normalization | None = None, **options):
    torch.manual_seed(0)
    sizes = {
        "channels": (4, 8),
        "attention_levels": (False, False),
        "num_res_blocks": 1,
        "latent_channels": 2,
    }
    sizes |= {"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False, "norm_num_groups": 2}
    normalization = normalization or RangeNormalization()
    normalization.fit(iter(raw_images()[:, 0].numpy()))
    return FrozenAutoencoder(kind(spatial_dims=2, **(sizes | options)), normalization)


def test_it_stays_frozen():
    first_stage = frozen()
    parent = torch.nn.Sequential(first_stage).train()
    assert not any(module.training for module in first_stage.modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    raw = raw_images().requires_grad_()
    assert not first_stage.encode(raw).mean.requires_grad


def test_raw_images_to_latents_and_back():
    first_stage, raw = frozen(), raw_images()
    posterior = first_stage.encode(raw)
    assert first_stage.latent_channels == 2
    assert first_stage.downsampling == 2
    assert posterior.mean.shape == posterior.std.shape == (2, 2, 8, 8)
    assert (posterior.std > 0).all()
    statistics = first_stage.normalization.statistics(raw)
    image = first_stage.normalization.normalize(raw, statistics)
    assert torch.equal(posterior.mean, first_stage.autoencoder.encode(image)[0])
    decoded = first_stage.decode(posterior.mean, statistics)
    background = first_stage.decode_normalized(posterior.mean) < -0.9
    assert decoded.shape == raw.shape
    assert (decoded[background & (decoded < 1e-3)] == 0).all()


def test_other_images_statistics_can_be_asked_for():
    first_stage, raw = frozen(normalization=MaskedZScore()), raw_images()
    statistics = first_stage.normalization.statistics(2 * raw)
    own, other = first_stage.encode(raw).mean, first_stage.encode(raw, statistics).mean
    assert not torch.allclose(own, other)
    assert torch.allclose(first_stage.encode(2 * raw).mean, own, atol=1e-4)


@pytest.mark.parametrize("cast", [torch.nn.Module.double, torch.nn.Module.bfloat16, torch.nn.Module.half])
def test_full_precision_whatever_is_trained_on_it(cast: Callable[[torch.nn.Module], torch.nn.Module]):
    first_stage, raw = frozen(), raw_images()
    expected, statistics = first_stage.encode(raw), first_stage.normalization.statistics(raw)
    decoded = first_stage.decode(expected.mean, statistics)
    print_before = first_stage.fingerprint()
    cast(torch.nn.Sequential(first_stage))
    assert first_stage.fingerprint() == print_before
    with torch.autocast("cpu", torch.bfloat16):
        found = first_stage.encode(raw)
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.std, expected.std)
        assert torch.equal(first_stage.decode(found.mean.double(), statistics), decoded)


def test_the_fingerprint_is_of_content():
    seen = [frozen().fingerprint()]
    assert frozen().fingerprint() == seen[0]
    changed = frozen()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-6
    seen.append(changed.fingerprint())
    changed = frozen()
    changed.normalization.get_buffer("bounds")[1] += 1
    seen.append(changed.fingerprint())
    seen.append(frozen(normalization=MaskedZScore()).fingerprint())
    seen.append(frozen(LocalAutoencoderKL).fingerprint())  # the same weights in other layers
    seen.append(frozen(norm_num_groups=4).fingerprint())
    assert len(set(seen)) == len(seen)


def test_many_images_pass_in_parts(monkeypatch: pytest.MonkeyPatch):
    first_stage, raw = frozen(LocalAutoencoderKL), raw_images().repeat(10, 1, 1, 1)[:19]
    seen = []
    encode = first_stage.autoencoder.encode
    monkeypatch.setattr(
        first_stage.autoencoder, "encode", lambda part: seen.append(len(part)) or encode(part)
    )
    posterior = first_stage.encode(raw)
    assert seen == [16, 3]
    image = first_stage.normalization.normalize(raw, first_stage.normalization.statistics(raw))
    torch.testing.assert_close(posterior.mean, encode(image)[0])
    decoded = first_stage.decode_normalized(posterior.mean)
    torch.testing.assert_close(decoded[18:], first_stage.decode_normalized(posterior.mean[18:]))
    assert len(decoded) == 19
