"""The adversarial VAE: the algorithm, what counts as a step, and each switch of its configuration."""

import functools
import itertools
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import default_collate

from helpers.tiny_vae import Data, Images, equal, fit, tiny_vae, weights
from pti import losses
from pti.common.errors import UsageError
from pti.common.randomness import keyed_generator
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.optimization import LrSchedule, last_layer_weight
from pti.networks.perceptual import Lite0Perceptual
from pti.networks.posterior import Posterior

SGD = functools.partial(torch.optim.SGD, lr=0.1)


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Posterior, "sample", lambda self, *_: self.mean)


def batch(count: int = 4) -> dict[str, Any]:
    return default_collate([Images(count)[i] for i in range(count)])


def averaged(module: AdversarialVAE) -> torch.nn.Module:
    assert module.ema is not None
    return module.ema.model


class Watch(Callback):
    """Calls ``look(trainer, module)`` after every training batch and keeps the answers."""

    def __init__(self, look: Any) -> None:
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(trainer, pl_module))


def test_equals_the_algorithm_written_out():
    """Three batches against a plain loop: the discriminator sees the reconstruction of before the step."""
    term = losses.Term(0.3, losses.gradient)
    module = tiny_vae(kl_weight=1e-4, adv_weight=0.5, extra_losses={"gradient": term}, seed=7)
    reference = tiny_vae(seed=7)
    data = Data(count=12)
    reference.normalization.fit(data.training_images())
    adam_g = torch.optim.Adam(reference.autoencoder.parameters(), lr=1e-3)
    adam_d = torch.optim.Adam(reference.discriminator.parameters(), lr=1e-3)
    for step, raw in enumerate(b["image"] for b in data.train_dataloader()):
        image = reference.normalization.normalize(raw, reference.normalization.statistics(raw))
        mean, std = reference.autoencoder.encode(image)
        noise = torch.randn(mean.shape, generator=keyed_generator("cpu", 7, step, 0))
        found = reference.autoencoder.decode(mean + std * noise)
        kl = 0.5 * (mean**2 + std**2 - torch.log(std**2) - 1).sum((1, 2, 3)).mean()
        fooled = (reference.discriminator(found)[-1] - 1).square().mean()
        loss = (found - image).abs().mean() + 1e-4 * kl + 0.3 * losses.gradient(found, image) + 0.5 * fooled
        adam_g.zero_grad()
        loss.backward()
        adam_g.step()
        real, fake = (reference.discriminator(x)[-1] for x in (image, found.detach()))
        adam_d.zero_grad()
        (0.5 * ((real - 1).square().mean() + fake.square().mean())).backward()
        adam_d.step()
    fit(module, data)
    for a, b in zip(module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("disc_start", [0, 1, 3])
def test_global_step_counts_the_generators_steps_alone(disc_start: int):
    watch = Watch(lambda trainer, module: trainer.global_step)
    module = tiny_vae(disc_start=disc_start, disc_start_unit="batches")
    fit(module, Data(count=20), callbacks=[watch])
    assert watch.seen == [1, 2, 3, 4, 5]
    trainer = fit(tiny_vae(), Data(count=20), max_epochs=-1, max_steps=3)
    assert (trainer.global_step, module.batches_seen) == (3, 5)


@pytest.mark.parametrize(
    ("unit", "start", "frozen"), [("epochs", 1, 2), ("batches", 3, 3), ("batches", 0, 0)]
)
def test_the_discriminator_waits_for_its_start(unit: str, start: int, frozen: int):
    module = tiny_vae(disc_start=start, disc_start_unit=unit)
    initial = weights(module.discriminator)
    watch = Watch(lambda trainer, module: equal(weights(module.discriminator), initial))
    fit(module, Data(count=8), max_epochs=3, callbacks=[watch])
    assert watch.seen == [True] * frozen + [False] * (6 - frozen)


@pytest.mark.usefixtures("without_noise")
@pytest.mark.parametrize(("count", "steps"), [(8, 2), (12, 3), (10, 3)])
def test_accumulation_equals_large_batches_also_in_the_last_partial_window(count: int, steps: int):
    """Batches of 2 in windows of 2 against batches of 4; 10 images leave a window of one batch."""
    settings = {"generator_optimizer": SGD, "discriminator_optimizer": SGD, "kl_weight": 1e-3}
    accumulated, large = tiny_vae(accumulate_grad_batches=2, **settings), tiny_vae(**settings)
    assert fit(accumulated, Data(count, batch_size=2), precision="64-true").global_step == steps
    fit(large, Data(count, batch_size=4), precision="64-true")
    for a, b in zip(accumulated.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_a_validation_inside_a_window_keeps_its_gradients():
    interrupted, whole = (tiny_vae(accumulate_grad_batches=2) for _ in range(2))
    fit(interrupted, Data(count=8, batch_size=2), val_check_interval=1)
    fit(whole, Data(count=8, batch_size=2), limit_val_batches=0)
    assert equal(weights(interrupted), weights(whole))


def test_gradients_are_clipped_for_each_network():
    module = tiny_vae(gradient_clip_val=1e-3, generator_optimizer=SGD, discriminator_optimizer=SGD)
    before = weights(module.autoencoder), weights(module.discriminator)
    fit(module, Data(count=4))
    for network, old in zip((module.autoencoder, module.discriminator), before, strict=True):
        change = torch.stack([(p - o).norm() for p, o in zip(network.parameters(), old, strict=True)]).norm()
        torch.testing.assert_close(change.item(), 0.1 * 1e-3, rtol=1e-3, atol=0)


def test_the_rate_follows_the_schedule():
    watch = Watch(lambda trainer, module: [o.param_groups[0]["lr"] for o in trainer.optimizers])
    schedule = LrSchedule(warmup_steps=2, decay="linear", final_factor=0.5)
    fit(tiny_vae(lr_schedule=schedule), Data(count=12), max_epochs=2, callbacks=[watch])
    expected = [1e-3 * f for f in (0.5, 1.0, 1.0, 5 / 6, 4 / 6, 0.5)]
    assert [rate for rate, _ in watch.seen] == pytest.approx(expected)
    assert all(generator == discriminator for generator, discriminator in watch.seen)


def test_resume_restores_counters_optimizers_average_and_noise(tmp_path):
    settings: dict[str, Any] = {"ema_decay": 0.9, "disc_start": 3, "disc_start_unit": "batches"}
    settings["lr_schedule"] = LrSchedule(warmup_steps=1, decay="cosine")
    whole, first, second = (tiny_vae(**settings) for _ in range(3))
    fit(whole, Data(), max_epochs=4)
    # The whole run's schedule is known from the start; the interrupted one is stopped, not shortened.
    stop = Watch(lambda trainer, module: setattr(trainer, "should_stop", module.batches_seen == 4))
    fit(first, Data(), max_epochs=4, callbacks=[stop]).save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    fit(second, Data(), max_epochs=4, ckpt_path=tmp_path / "a.ckpt")
    assert second.batches_seen == 8
    assert equal(weights(whole), weights(second))


def test_a_checkpoint_inside_a_window_keeps_its_gradients():
    module, other = tiny_vae(), tiny_vae()
    fit(module, Data())
    fit(other, Data())
    for parameter in module.autoencoder.parameters():
        parameter.grad = torch.randn_like(parameter)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    other.on_train_start()
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or (b.grad is not None and torch.equal(a.grad, b.grad))


def test_the_average_is_what_validation_and_inference_use():
    module = tiny_vae(ema_decay=0.9)
    live = fit(module, Data()) and weights(module.autoencoder)
    raw = batch()["image"]
    with torch.no_grad():
        for parameter in module.autoencoder.parameters():
            parameter += 1.0
        changed = module(raw)
        for parameter, value in zip(module.autoencoder.parameters(), live, strict=True):
            parameter.copy_(value)
        assert torch.equal(module(raw), changed)
    assert module.inference_autoencoder is not module.autoencoder


def test_an_exception_in_validation_leaves_the_live_weights_live(monkeypatch: pytest.MonkeyPatch):
    module = tiny_vae(ema_decay=0.9)
    after_training = []

    def fail(*_: Any) -> None:
        after_training.append(weights(module.autoencoder))
        raise RuntimeError("in validation")

    monkeypatch.setattr(module, "validation_step", fail)
    with pytest.raises(RuntimeError, match="in validation"):
        fit(module, Data())
    assert equal(weights(module.autoencoder), after_training[0])


@pytest.mark.parametrize(("every", "updates"), [(1, 5), (10, 0), (2, 2)])
def test_the_average_moves_every_nth_step_whatever_the_discriminator_does(every: int, updates: int):
    module = tiny_vae(ema_decay=0.9, ema_update_every=every, disc_start=3, disc_start_unit="batches")
    seen = [weights(averaged(module))]
    fit(module, Data(count=20), callbacks=[Watch(lambda trainer, m: seen.append(weights(averaged(m))))])
    assert sum(not equal(a, b) for a, b in itertools.pairwise(seen)) == updates


def test_perceptual_network_stays_outside_the_checkpoint(tmp_path):
    module = tiny_vae(perceptual=Lite0Perceptual(), perceptual_weight=0.1)
    trainer = fit(module, Data())
    assert trainer.callback_metrics["train/perceptual"] > 0
    assert trainer.callback_metrics["val/perceptual"] > 0
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["perceptual"] == "lite0"
    assert not any("perceptual" in name for name in content["state_dict"])
    tiny_vae().load_state_dict(content["state_dict"], strict=True)


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer():
    module = tiny_vae(adaptive_adv_weight=True, adv_weight=0.5, generator_optimizer=SGD)
    fit(module, Data(count=4))
    image = torch.randn(2, 1, 32, 32)
    found = module.autoencoder.reconstruct(image)
    others, adversarial = (found - image).abs().mean(), module.discriminator(found)[-1].square().mean()
    weight = last_layer_weight(module.autoencoder.decoder)
    assert weight.shape == (1, 4, 3, 3)
    norms = [torch.autograd.grad(x, weight, retain_graph=True)[0].norm() for x in (others, adversarial)]
    torch.testing.assert_close(
        module.adversarial_weight(others, adversarial), 0.5 * norms[0] / (norms[1] + 1e-4)
    )


def test_training_without_a_discriminator_is_that_before_it_starts():
    without, before = tiny_vae(adversarial=None), tiny_vae(disc_start=99)
    for module in (without, before):
        fit(module, max_epochs=2)
    assert equal(weights(without), weights(before.autoencoder))
    assert not [name for name in without.state_dict() if name.startswith("discriminator")]
    assert len(without.trainer.optimizers) == 1


def test_losses_on_features_need_a_discriminator():
    matching = {"feature_matching": losses.Term(1.0, losses.feature_matching)}
    with pytest.raises(UsageError, match=r"extra_losses=\[feature_matching\].*model/adversarial=none"):
        tiny_vae(adversarial=None, extra_losses=matching)


def test_feature_matching_sets_in_with_the_discriminator():
    matching = losses.Term(1.0, losses.feature_matching)
    watch = Watch(lambda trainer, module: "train/feature_matching" in trainer.callback_metrics)
    fit(tiny_vae(extra_losses={"feature_matching": matching}, disc_start=1), max_epochs=2, callbacks=[watch])
    assert watch.seen == [False, False, True, True]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"disc_start_unit": "steps"}, "epochs or batches"),
        ({"accumulate_grad_batches": 0}, "1 or more"),
        ({"latent_noise": -0.1}, r"model\.latent_noise=-0\.1: expected 0 or more"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], expected: str):
    with pytest.raises(UsageError, match=expected):
        tiny_vae(**setting)


def test_decay_without_an_end_is_refused():
    with pytest.raises(UsageError, match=r"trainer\.max_epochs"):
        fit(tiny_vae(lr_schedule=LrSchedule(decay="cosine")), max_epochs=-1)


def test_background_comes_back_as_exactly_0_and_shapes_as_they_were():
    module = tiny_vae()
    fit(module)
    raw = batch()["image"]
    with torch.no_grad():
        posterior = module.encode(raw)
        assert posterior.mean.shape == posterior.std.shape == (4, 2, 16, 16)
        assert (posterior.std > 0).all()
        dark = module.normalization.denormalize(
            torch.full_like(raw, -0.95), module.normalization.statistics(raw)
        )
        assert (dark == 0).all()
        assert module(raw).shape == raw.shape


def test_a_trained_autoencoder_computes_in_float32_in_spite_of_autocast():
    module = tiny_vae()
    fit(module)
    raw = batch()["image"]
    with torch.no_grad():
        exact, mean = module(raw), module.encode(raw).mean
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module.encode(raw).mean, mean)
            assert torch.equal(module(raw), exact)


def test_validation_logs_image_bone_and_latent_figures():
    metrics = fit(tiny_vae()).callback_metrics
    names = {name.removeprefix("val/") for name in metrics if name.startswith("val/")}
    latents = {f"latent_{moment}_{channel}" for moment in ("mean", "std") for channel in (0, 1)}
    images = {
        "l1",
        "psnr",
        "ssim",
        "kl",
        "kl_per_element",
        "bone_dice",
        "bone_height_error_mm",
        "texture_amplitude",
        "texture_correlation",
        "active_units",
        "l1_vs_constant",
        "variation",
    }
    assert names == images | latents
    assert "val/bone_dice" not in fit(tiny_vae(bone_metrics=False)).callback_metrics
