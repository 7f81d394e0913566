"""Suite ``ldm``: training and sampling speed of the second stage with different settings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import Experiment, SuiteSettings, time_epoch

_SIZE = 128  # of the images of ldm_demo, pixels
_BATCH = 4  # translated images


def ldm_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare epochs and translations of ``ldm_demo`` on phantoms, untrained, and steps of the baseline."""
    size = min(_SIZE, settings.image_size)
    patients = max(4, settings.images // 4)  # at least a batch of ldm_demo
    shared = settings.phantom(patients, size)
    autoencoder = _save_untrained(settings.build("vae_demo", shared), settings.scratch / "vae.ckpt")
    shared.append(f"autoencoder_ckpt={autoencoder}")
    experiments = {
        name: settings.build("ldm_demo", [*shared, f"model.cache_latents={cache}"])
        for name, cache in (("encoder in every step", "false"), ("latent cache", "true"))
    }
    epochs = {name: partial(time_epoch, experiment) for name, experiment in experiments.items()}
    return [
        Comparison("training epoch of ldm_demo", "pairs/s", 2 * patients, epochs),
        _conditioning(settings.image_size // 4),
        _samplers(experiments["latent cache"].module, size),
    ]


def _save_untrained(experiment: Experiment, path: Path) -> Path:
    """Save a checkpoint before the first training step; it is as fast as a trained one."""
    import torch

    experiment.data.prepare_data()
    experiment.data.setup("fit")
    experiment.module.normalization.fit(experiment.data.training_images())
    torch.save({"config": experiment.config, "state_dict": experiment.module.state_dict()}, path)
    return path


def _samplers(module: Any, size: int) -> Comparison:
    """Compare the translation of one batch by each sampler, which evaluate the network differently often."""
    import torch

    from pti.common.randomness import sample_generator
    from pti.diffusion import samplers

    raw = torch.zeros(_BATCH, 1, size, size)
    raw[..., size // 4 : -size // 8, size // 3 : -size // 3] = 1000.0

    def translate(sampler: samplers.Sampler, steps: int) -> None:
        generators = [sample_generator(0, "", number) for number in range(_BATCH)]
        with torch.inference_mode():
            module.eval().translate(raw, generators, sampler=sampler, steps=steps)

    fast = (samplers.ddim, samplers.dpm_solver, samplers.euler, samplers.heun)
    ways = {
        "ddpm, 250 steps": partial(translate, samplers.ddpm, 250),
        **{f"{sampler.__name__}, 10 steps": partial(translate, sampler, 10) for sampler in fast},
    }
    return Comparison(f"translation by ldm_demo, {size} × {size} pixels", "images/s", _BATCH, ways)


def _conditioning(size: int) -> Comparison:
    """Compare training steps of the baseline's UNet by conditioning, on square latents of ``size``."""
    import torch

    from pti.networks.conditional_unet import ConditionalUNet

    def step(conditioning: str) -> Callable[[], None]:
        network = ConditionalUNet(4, conditioning)  # pyright: ignore[reportArgumentType]
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
        x, condition, target = torch.randn(3, 1, 4, size, size, generator=torch.Generator().manual_seed(0))
        timesteps = torch.tensor([500.0])

        def run() -> None:
            optimizer.zero_grad()
            (network(x, timesteps, condition) - target).square().mean().backward()
            optimizer.step()

        return run

    ways = {name: step(name) for name in ("cross_attention", "concat")}
    return Comparison(f"training step of the baseline UNet, latents {size} × {size}", "steps/s", 1, ways)
