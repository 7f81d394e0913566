"""Each switch for speed, memory or devices: it works, and changes results by rounding at most."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import default_collate

from helpers import forks
from helpers.tiny_vae import Data, Images, equal, fit, tiny_vae, weights
from pti.common.conf_dir import CONF_DIR
from pti.modules.adversarial_vae import AdversarialVAE
from pti.networks.posterior import Posterior

SGD = functools.partial(torch.optim.SGD, lr=0.1)
ATTENTION = {"with_encoder_nonlocal_attn": True, "with_decoder_nonlocal_attn": True}


def trained(data: Data | None = None, **settings: Any) -> AdversarialVAE:
    module = tiny_vae(generator_optimizer=SGD, discriminator_optimizer=SGD, **settings)
    fit(module, data)
    return module


def assert_same(one: AdversarialVAE, other: AdversarialVAE, tolerance: float = 1e-5) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_gradient_checkpointing_gives_the_same_training():
    assert_same(trained(), trained(autoencoder={"use_checkpoint": True}))


def test_flash_attention_gives_the_same_training():
    plain, flash = (trained(autoencoder={**ATTENTION, "use_flash_attention": use}) for use in (False, True))
    assert_same(plain, flash)


def test_channels_last_reaches_the_networks_and_gives_the_same_training():
    module = trained(channels_last=True, ema_decay=0.9)
    assert_same(trained(ema_decay=0.9), module)
    kernels = [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="no C++ compiler")
@pytest.mark.parametrize("adaptive", [False, True])
def test_compiling_gives_the_same_training_and_the_same_names(adaptive: bool):
    # The fewest operations and shapes of batches, because the compiler takes seconds for each.
    settings = {
        "autoencoder": {"channels": (4,), "attention_levels": (False,)},
        "adaptive_adv_weight": adaptive,
    }
    plain = trained(Data(val_count=2), **settings)
    compiled = trained(Data(val_count=2), **settings, compile=True)
    assert compiled.autoencoder.encoder._compiled_call_impl is not None
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert_same(plain, compiled, tolerance=1e-3)


@pytest.mark.parametrize("adaptive", [False, True])
def test_bf16(adaptive: bool):
    module = tiny_vae(adaptive_adv_weight=adaptive)
    initial = weights(module)
    metrics = fit(module, Data(), precision="bf16-mixed").callback_metrics
    assert all(value.isfinite() for value in metrics.values())
    assert not equal(weights(module), initial)
    raw = default_collate([Images(1)[0]])["image"]
    with torch.autocast("cpu", torch.bfloat16):
        posterior = module.encode(raw)
        assert {posterior.mean.dtype, posterior.std.dtype, module(raw).dtype} == {torch.float32}


def fp16(**scaler: Any) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", **scaler))  # pyright: ignore


def test_fp16():
    module = tiny_vae()
    initial = weights(module)
    metrics = fit(module, Data(), plugins=[fp16(init_scale=16.0)]).callback_metrics
    assert all(value.isfinite() for value in metrics.values())
    assert not equal(weights(module), initial)


class ScaledFloat32(MixedPrecision):
    """Scaled losses as in fp16, computed in float32: powers of 2 then change no bit."""

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


@pytest.mark.usefixtures("without_noise")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_changing_fp16_scale_changes_no_step(accumulate: int):
    """A scale that doubles at every step, so between the generator's step and the discriminator's too."""
    results = []
    for growth_interval in (1, 10**6):
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=growth_interval)  # pyright: ignore
        module = tiny_vae(accumulate_grad_batches=accumulate, gradient_clip_val=0.5)
        fit(module, Data(count=8, batch_size=2), plugins=[ScaledFloat32("16-mixed", "cpu", scaler)])
        results.append((module, scaler.get_scale()))
    assert results[0][1] == results[1][1] * 2 ** (2 * 4 // accumulate)
    assert equal(weights(results[0][0]), weights(results[1][0]))


@pytest.mark.usefixtures("without_noise")
def test_fp16_an_overflow_skips_a_step_and_spoils_no_weight():
    module = tiny_vae()
    initial = weights(module)
    plugin = fp16(init_scale=2.0**120)
    fit(module, Data(count=4), plugins=[plugin])
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() < 2.0**120
    assert equal(weights(module.autoencoder), initial[: len(weights(module.autoencoder))])


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Posterior, "sample", lambda self, *_: self.mean)


DDP = """
import functools, sys, torch
from helpers import forks
from helpers.tiny_vae import Data, fit, tiny_vae
from pti.networks.posterior import Posterior
from pti.networks.perceptual import Lite0Perceptual
from pti.train.strategy import Replicas
Posterior.sample = lambda self, *_: self.mean
devices = int(sys.argv[1])
SGD = functools.partial(torch.optim.SGD, lr=0.05)
module = tiny_vae(
    generator_optimizer=SGD, discriminator_optimizer=SGD, kl_weight=1e-3, ema_decay=0.9,
    disc_start=1, disc_start_unit="batches", accumulate_grad_batches=2, gradient_clip_val=1.0,
    scale_lr_by_devices=len(sys.argv) > 3, perceptual=Lite0Perceptual(),
)
data = Data(count=24, batch_size=8 // devices, val_count=5)
strategy = Replicas() if devices > 1 else "auto"
trainer = fit(module, data, devices=devices, strategy=strategy, precision="64-true", max_epochs=2)
rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
result = {"weights": list(module.state_dict().items()), "global_step": trainer.global_step, "rates": rates}
result["metrics"] = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
torch.save(result, f"{sys.argv[2]}.{devices}.{trainer.global_rank}")
"""


def run(folder: Path, *arguments: str) -> None:
    code, output = forks.run(folder, *arguments, module="two_processes", timeout=250)
    assert code == 0, output[-3000:]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path):
    """Uneven validation, warm-up of the discriminator, accumulation, clipping; float64 without noise."""
    (tmp_path / "two_processes.py").write_text(DDP)
    run(tmp_path, "1", "r")
    run(tmp_path, "2", "r")
    one, *ranks = (torch.load(tmp_path / f"r.{name}") for name in ("1.0", "2.0", "2.1"))
    for rank in ranks:
        assert rank["global_step"] == one["global_step"] == 4
        for (name, expected), (_, found) in zip(one["weights"], rank["weights"], strict=True):
            if torch.is_tensor(expected) and expected.is_floating_point():
                torch.testing.assert_close(
                    found, expected, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
                )
        assert rank["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
    run(tmp_path, "2", "s", "scaled")
    assert torch.load(tmp_path / "s.2.0")["rates"] == pytest.approx([2 * rate for rate in one["rates"]])


def configured(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF_DIR), version_base=None):
        return compose("train", ["model=adversarial_vae", *overrides]).model


OPTIONS = [
    f"{group.name}={path.stem}"
    for group in sorted((CONF_DIR / "model").iterdir())
    if group.is_dir()
    and group.name in {"adversarial", "autoencoder", "discriminator", "reconstruction", "extra_losses"}
    for path in sorted(group.glob("*.yaml"))
]


@pytest.mark.parametrize("option", [*OPTIONS, "perceptual=none", "perceptual=lite0"])
def test_every_option_builds_a_module(option: str):
    group, name = option.split("=")
    value = f"[{name}]" if group == "extra_losses" else name
    module = instantiate(configured("model/perceptual=none", f"model/{group}={value}"))
    assert isinstance(module, AdversarialVAE)


def test_the_baseline_networks_are_the_users():
    module = instantiate(configured())
    millions = sum(p.numel() for p in module.autoencoder.parameters()) / 1e6
    assert millions == pytest.approx(12.3, abs=0.1)
    with torch.no_grad():
        assert module.autoencoder.encode(torch.zeros(1, 1, 64, 64))[0].shape == (1, 4, 16, 16)
    optimizers = [
        factory(network.parameters())
        for factory, network in zip(
            module.optimizer_factories, (module.autoencoder, module.discriminator), strict=True
        )
    ]
    assert [o.param_groups[0]["lr"] for o in optimizers] == [2.5e-5, 2.5e-5]


def test_terms_can_be_combined_and_their_weights_set():
    losses = "model/extra_losses=[gradient,focal_frequency,feature_matching]"
    module = instantiate(
        configured(losses, "model.extra_losses.gradient.weight=0.5", "model/perceptual=none")
    )
    assert list(module.objective.extra_losses) == ["gradient", "focal_frequency", "feature_matching"]
    assert module.objective.extra_losses["gradient"].weight == 0.5
