"""Latent diffusion: every option, noise that belongs to a sample, the loss and its weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from helpers.second_stage_setup import (
    configuration,
    data_of,
    fill_zeros,
    generators,
    module_of,
    names,
    one_step,
    trained,
    training_batch,
)
from helpers.training_setup import SIZE
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.diffusion.formulation import min_snr_weight
from pti.diffusion.paths import RectifiedFlow
from pti.modules.latent_diffusion import CHANGE_THRESHOLD, LatentDiffusion
from pti.modules.latent_space.preparation import channel_weights
from pti.modules.size_targets import relative_sizes
from pti.modules.tif_data import TifDataModule
from pti.networks.frozen_autoencoder import FrozenAutoencoder
from pti.networks.size_condition import SizeCondition
from pti.runs.checkpoint import open_checkpoint
from pti.train.run import train

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def data(root: Path) -> TifDataModule:
    return data_of(configuration(root, root.parent / "unused"))


def built(root: Path, autoencoder: Path, *overrides: str) -> LatentDiffusion:
    """A module, its network filled."""
    config = configuration(root, root.parent / "unused", f"autoencoder_ckpt='{autoencoder}'", *overrides)
    module = module_of(config)
    fill_zeros(module)
    return module


@pytest.fixture(scope="module")
def shared(root: Path, autoencoder: Path) -> LatentDiffusion:
    return built(root, autoencoder)


@pytest.fixture
def module(shared: LatentDiffusion) -> LatentDiffusion:
    """One that may be changed."""
    return copy.deepcopy(shared)


def option(group: str, name: str) -> Any:
    """What a file of ``conf/model`` builds."""
    return instantiate(OmegaConf.load(CONF_DIR / "model" / group / f"{name}.yaml"))


PATHS = names("path")
GROUPS = ("path", "sampler", "conditioning", "detail_transfer", "texture", "size_condition")
# As few modules as hold every file of these groups.
COMBINED = [
    [f"model/{group}={found[index % len(found)]}" for group, found in ((g, names(g)) for g in GROUPS)]
    for index in range(max(len(names(group)) for group in GROUPS))
]


def assert_raw_images(found: Tensor, module: LatentDiffusion) -> None:
    """Finite, and background exactly 0: nothing lies between 0 and the darkest that tissue can be."""
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    statistics = module.normalization.statistics(found)
    image = module.normalization.normalize(found, statistics)
    darkest = module.normalization.denormalize(torch.full_like(image, -0.9999), statistics)
    assert (darkest == 0).all()
    assert (found[found != 0] > 1e-30).all()


@pytest.mark.parametrize("options", COMBINED, ids=" ".join)
def test_every_option_trains_and_translates(
    root: Path, autoencoder: Path, data: TifDataModule, options: list[str]
):
    module, batch = built(root, autoencoder, *options), training_batch(data)
    before = [parameter.detach().clone() for parameter in module.network.parameters()]
    assert 0 < one_step(module, batch) < 1e4
    assert any(not torch.equal(p, b) for p, b in zip(module.network.parameters(), before, strict=True))
    assert module.latent_space.first_stage.autoencoder.encoder.training is False
    with torch.no_grad():
        found = module.translate(batch["condition"], generators(batch["name"]), steps=2)
        module.validation_loss(module.on_before_batch_transfer(batch, 0))
    assert found.shape == (4, 1, SIZE, SIZE)
    assert_raw_images(found, module)


@torch.no_grad()
@pytest.mark.parametrize("options", COMBINED, ids=" ".join)
def test_an_image_is_encoded_and_reconstructed_once_for_all_of_its_samples(
    root: Path, autoencoder: Path, data: TifDataModule, options: list[str], monkeypatch: pytest.MonkeyPatch
):
    module, batch = built(root, autoencoder, *options), training_batch(data, 3)
    fill_zeros(module)
    raw, images, encoded = batch["condition"], [0, 2, 0, 0, 2], []
    encode = FrozenAutoencoder.encode
    monkeypatch.setattr(FrozenAutoencoder, "encode", lambda *a: encoded.append(len(a[1])) or encode(*a))
    noise = [generators([str(number) for number in range(5)]) for _ in range(2)]
    expected = module.translate(raw[images], noise[0], steps=2)
    found = module.translate(raw, noise[1], images=images, steps=2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.5)
    assert encoded == [5, 3]


@torch.no_grad()
def test_what_the_decoder_calls_background_is_exactly_0(module: LatentDiffusion, data: TifDataModule):
    raw = training_batch(data)["condition"]
    bound = module.normalization.get_buffer("bounds")[3] / 2 - 1
    latents = module.latent_space.encode_condition(raw)
    decoded = module.latent_space.first_stage.decode_normalized(
        module.latent_space.scaling.denormalize(latents)
    )
    decoded_raw = module.latent_space.decode(raw, latents)
    assert torch.equal(decoded_raw == 0, decoded < bound)
    # As it stands in the image, so with details transferred where nothing is changed.
    module.latent_space.detail_transfer = option("detail_transfer", "gated")
    found = module.latent_space.decode(raw, latents)
    torch.testing.assert_close(found, raw, rtol=1e-4, atol=0.1)
    assert torch.equal(found == 0, raw == 0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("group", "name"), [("sampler", "ddpm"), ("path", "bridge"), ("path", "condition_flow")]
)
def test_a_sample_depends_on_no_other(module: LatentDiffusion, data: TifDataModule, group: str, name: str):
    setattr(module, group, option(group, name))
    batch = training_batch(data)
    raw, called = batch["condition"], batch["name"]
    together = module.translate(raw, generators(called), steps=3)
    scale = float(raw.max())
    for order in ([2], [3, 0], [1, 1, 2, 3, 0]):
        found = module.translate(raw[order], generators([called[index] for index in order]), steps=3)
        torch.testing.assert_close(found, together[order], rtol=0, atol=1e-4 * scale)
    other = module.translate(raw, generators(called, sample=1), steps=3)
    assert float((other - together).abs().max()) > 1e-2 * scale


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS)
def test_the_validation_loss_depends_on_no_batch_and_no_order(
    module: LatentDiffusion, data: TifDataModule, path: str
):
    module.path, whole = option("path", path), training_batch(data, 5)
    together = module.validation_loss(whole)[0]
    assert together.shape == (5,)
    assert torch.equal(module.validation_loss(whole)[0], together)
    for index in (0, 3):
        alone = data.training_set().__getitems__([(0, index)])
        torch.testing.assert_close(module.validation_loss(alone)[0], together[[index]], rtol=1e-4, atol=1e-5)
    backwards = data.training_set().__getitems__([(0, index) for index in range(5)][::-1])
    torch.testing.assert_close(module.validation_loss(backwards)[0], together.flip(0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_validation_encodes_once_and_uses_the_average(module: LatentDiffusion, data: TifDataModule):
    batch, calls = training_batch(data), []
    expected = module.validation_loss(batch)[0]
    assert module.ema is not None
    for parameter in module.network.parameters():
        parameter += 1
    encode = module.latent_space.first_stage.encode
    module.latent_space.first_stage.encode = lambda *given: calls.append(1) or encode(*given)  # pyright: ignore
    assert torch.equal(module.validation_loss(batch)[0], expected)
    assert len(calls) == 2  # conditions and targets


def latent_batch(count: int = 4) -> dict[str, Any]:
    """A batch as from the cache; condition and target differ in the left half of the latents."""
    generator = torch.Generator().manual_seed(3)
    condition = torch.randn(count, 4, 8, 8, generator=generator)
    target = condition.clone()
    target[..., :4] += 1.0
    called = [f"image {index}" for index in range(count)]
    return {
        "condition_mean": condition,
        "target_mean": target,
        "target_std": torch.ones(4, 4, 8, 8),
        "name": called,
    }


def answers_zero(module: LatentDiffusion) -> LatentDiffusion:
    """The error of ``sample`` is then the target itself."""
    module.path, module.latent_space.sample_posterior = RectifiedFlow("sample"), False
    for parameter in module.inference_network.parameters():
        parameter.zero_()
    return module


@torch.no_grad()
def test_changed_weight(module: LatentDiffusion):
    module, batch = answers_zero(module), latent_batch()
    condition, target = module.latent_space.encode_pair(batch, generators(batch["name"]))
    changed = (target - condition).square().mean(1, keepdim=True) > CHANGE_THRESHOLD**2
    assert changed[..., :4].all()
    assert not changed[..., 4:].any()
    torch.testing.assert_close(module.validation_loss(batch)[0], target.square().mean((1, 2, 3)))
    module.change_loss_weight = 5.0
    weight = torch.where(changed, 5.0, 1.0).expand_as(target)
    expected = (weight * target.square()).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    torch.testing.assert_close(module.validation_loss(batch)[0], expected)


@torch.no_grad()
def test_channels_that_the_decoder_ignores_hardly_count(module: LatentDiffusion, data: TifDataModule):
    """The weights follow the decoder, their mean is 1, and the error is the mean of weighted channels."""
    space = module.latent_space
    even = channel_weights(space, data.training_set(), torch.device("cpu"))
    space.first_stage.autoencoder.get_parameter("post_quant_conv.conv.weight")[:, 2] = 0
    weights = channel_weights(space, data.training_set(), torch.device("cpu"))
    assert weights.mean() == pytest.approx(1)
    assert (weights > 0).all()
    assert weights[2] < 0.03
    assert weights[2] < even[2]
    module, batch = answers_zero(module), latent_batch()
    _, target = space.encode_pair(batch, generators(batch["name"]))
    module.weight_channels = True
    module.channel_weights.copy_(weights)
    expected = (weights[:, None, None] * target.square()).mean((1, 2, 3))
    torch.testing.assert_close(module.validation_loss(batch)[0], expected)


def test_training_measures_the_weights_of_the_channels(root: Path, link: str, tmp_path: Path, capsys: Any):
    config = configuration(root, tmp_path / "run", link, "model.weight_channels=true", "trainer.max_epochs=1")
    trained(config, tmp_path / "run")
    printed = capsys.readouterr().out
    weights = [float(text) for text in printed.split("by latent channel: ")[1].splitlines()[0].split(", ")]
    assert len(weights) == 4
    assert sum(weights) / 4 == pytest.approx(1, abs=0.02)


@torch.no_grad()
@pytest.mark.parametrize("change", [0.0, 1.0])
def test_changed_weight_weighs_nothing_where_all_or_none_is_changed(module: LatentDiffusion, change: float):
    module.latent_space.sample_posterior, batch = False, latent_batch()
    batch["target_mean"] = batch["condition_mean"] + change
    plain = module.validation_loss(batch)[0]
    module.change_loss_weight = 5.0
    torch.testing.assert_close(module.validation_loss(batch)[0], plain)


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("time", [0.05, 0.9])
def test_min_snr_weighs_each_time(
    module: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, path: str, time: float
):
    def always(count: int, generator: torch.Generator) -> Tensor:
        return torch.full((count,), time, dtype=torch.float64)

    module.path, batch = option("path", path), latent_batch()
    monkeypatch.setattr(module.path, "training_times", always)
    plain = module.validation_loss(batch)[0]
    module.min_snr_gamma = 2.0
    weight = min_snr_weight(module.path, torch.tensor([time], dtype=torch.float64), 2.0)
    torch.testing.assert_close(module.validation_loss(batch)[0], plain * float(weight), rtol=1e-4, atol=0)


def test_conditions_are_dropped_in_training_only(module: LatentDiffusion):
    module.condition_dropout, seen = 0.999999, []
    module.network.register_forward_hook(lambda network, inputs, output: seen.append(inputs[2]))
    module.inference_network.register_forward_hook(lambda network, inputs, output: seen.append(inputs[2]))
    one_step(module, latent_batch())
    assert not seen.pop().any()
    module.validation_loss(latent_batch())
    assert all(condition.any() for condition in seen)


@pytest.fixture
def with_sizes(root: Path, autoencoder: Path) -> LatentDiffusion:
    """A module that draws heights with mean 0.5 and standard deviation 0.2, whatever the image."""
    module = built(root, autoencoder, "model/size_condition=predicted")
    assert module.size_condition is not None
    module.size_condition.bias[0] = 0.5
    module.size_condition.factor[0, 0] = 0.2
    return module


def maps_of(module: LatentDiffusion) -> list[Tensor]:
    """The maps that the network gets from now on."""
    seen = []
    for network in (module.network, module.inference_network):
        network.register_forward_hook(lambda network, inputs, output: seen.append(inputs[2][:, 4:]))
    return seen


def test_training_gives_the_true_sizes(with_sizes: LatentDiffusion, data: TifDataModule):
    seen, batch = maps_of(with_sizes), training_batch(data)
    assert with_sizes.size_condition is not None
    expected = relative_sizes(batch["target"], batch["pixel_mm"], with_sizes.size_condition.measures)
    one_step(with_sizes, batch)
    with torch.no_grad():
        with_sizes.validation_loss(with_sizes.on_before_batch_transfer(batch, 0))
    for maps in seen:
        torch.testing.assert_close(maps, expected.nan_to_num(0)[..., None, None].expand_as(maps))


@torch.no_grad()
def test_a_translation_gets_sizes_drawn_by_rank(with_sizes: LatentDiffusion, data: TifDataModule):
    seen, batch = maps_of(with_sizes), training_batch(data)
    ranks = [0.1, 0.5, 0.9, 0.9]
    with_sizes.translate(batch["condition"], generators(batch["name"]), ranks=ranks, steps=1)
    expected = 0.5 + 0.2 * torch.special.ndtri(torch.tensor(ranks))
    torch.testing.assert_close(seen[0][:, 0], expected[:, None, None].expand_as(seen[0][:, 0]))
    assert not seen[0][:, 1:].any()
    with_sizes.translate(batch["condition"], generators(batch["name"]), steps=1)
    assert (seen[-1][:, 0, 0, 0] - 0.5).abs().max() < 1
    assert len(seen[-1][:, 0, 0, 0].unique()) == 4


def test_training_fits_the_prediction_of_sizes(root: Path, link: str, tmp_path: Path):
    config = configuration(root, tmp_path, link, "model/size_condition=predicted", "trainer.max_epochs=1")
    trained(config, tmp_path)
    condition = open_checkpoint(tmp_path / "checkpoints" / "last.ckpt").load_module().size_condition
    assert isinstance(condition, SizeCondition)
    assert condition.fitted
    assert condition.weights.any()
    assert (condition.factor.diagonal() > 0).all()


def test_a_network_with_another_number_of_maps_is_refused(root: Path, autoencoder: Path):
    named = r"model\.network\.condition_maps=4: .*has 0.*condition_maps=0"
    with pytest.raises(InstantiationException, match=named):
        built(root, autoencoder, "model.network.condition_maps=4")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"guidance_scale": 2.0}, r"model\.guidance_scale=2\.0.*model\.condition_dropout=0\.1"),
        ({"condition_dropout": 1.0}, r"model\.condition_dropout=1\.0"),
        ({"condition_dropout": -0.1}, r"model\.condition_dropout=-0\.1"),
    ],
)
def test_guidance_needs_condition_dropout(shared: LatentDiffusion, options: dict[str, Any], named: str):
    parts = (shared.latent_space.first_stage, shared.network, shared.path, shared.sampler)
    with pytest.raises(UsageError, match=named):
        LatentDiffusion(*parts, optimizer=torch.optim.SGD, **options)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def test_guidance(module: LatentDiffusion, data: TifDataModule):
    batch = training_batch(data, 2)
    with pytest.raises(UsageError, match=r"trained without condition dropout.*guidance_scale=1"):
        module.translate(batch["condition"], generators(batch["name"]), guidance_scale=1.5)
    module.condition_dropout, module.guidance_scale = 0.1, 3.0
    own, none, three = (
        module.translate(batch["condition"], generators(batch["name"]), steps=1, guidance_scale=scale)
        for scale in (None, 1.0, 3.0)
    )
    assert torch.equal(own, three)
    assert not torch.allclose(none, three, rtol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_that_a_path_does_not_have(module: LatentDiffusion, data: TifDataModule, steps: int):
    batch = training_batch(data, 1)
    with pytest.raises(UsageError, match=f"steps={steps}"):
        module.translate(batch["condition"], generators(batch["name"]), steps=steps)


def test_a_step_changes_the_network_alone(module: LatentDiffusion, data: TifDataModule):
    before = {name: value.clone() for name, value in module.latent_space.first_stage.state_dict().items()}
    one_step(module, training_batch(data))
    assert all(
        torch.equal(value, before[name])
        for name, value in module.latent_space.first_stage.state_dict().items()
    )
    assert all(p.grad is None for p in module.latent_space.first_stage.parameters())


def test_other_ridges_need_sizes_as_a_condition(root: Path, link: str, tmp_path: Path):
    ridges = ("data/augmentation=mild", "data.augmentation.ridge=0.5")
    with pytest.raises(UsageError, match=r"data\.augmentation\.ridge=0\.5.*model/size_condition=predicted"):
        train(configuration(root, tmp_path / "plain", link, *ridges), tmp_path / "plain")
    sizes = ("model/size_condition=predicted", "trainer.max_epochs=1")
    trained(configuration(root, tmp_path / "sizes", link, *ridges, *sizes), tmp_path / "sizes")
