"""The suite ``ldm``: what the second stage's choices cost in time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pti.benchmark.comparison import Comparison
from pti.benchmark.training import composed, phantom, timed_epoch
from pti.common.conf_dir import CONF_DIR

_SIZE = 128  # of ldm_demo's images, pixels
_BATCH = 4  # images that are translated


def ldm_suite(config: DictConfig, scratch: Path) -> list[Comparison]:
    """Epochs and translations of ``ldm_demo``, on phantoms and with random weights; steps of the baseline."""
    from pti.modules.latent_diffusion import LatentDiffusion

    size = min(_SIZE, config.image_size)
    patients = max(4, config.images // 4)  # a batch of ldm_demo at least
    shared = [*phantom(scratch, patients, size), "data.num_workers=0"]
    shared.append(f"autoencoder_ckpt={_random_autoencoder(scratch / 'vae.ckpt', shared)}")
    _, plain = timed_epoch("ldm_demo", [*shared, "model.cache_latents=false"])
    module, cached = timed_epoch("ldm_demo", [*shared, "model.cache_latents=true"])
    epochs = {"encoder in every step": plain, "latent cache": cached}
    assert isinstance(module, LatentDiffusion)
    return [
        Comparison("training epoch of ldm_demo", "pairs/s", 2 * patients, epochs),
        _conditioning(config.image_size // 4),
        _samplers(module, size),
    ]


def _random_autoencoder(path: Path, overrides: list[str]) -> Path:
    """A checkpoint of ``vae_demo`` before its first step: as fast as a trained one."""
    import torch
    from hydra.utils import instantiate

    config = composed("vae_demo", overrides)
    data = instantiate(config["data"])
    data.prepare_data()
    data.setup("fit")
    module = instantiate(config["model"])
    module.normalization.fit(data.training_images())
    torch.save({"config": config, "state_dict": module.state_dict()}, path)
    return path


def _samplers(module: Any, size: int) -> Comparison:
    """Translations of one batch by each sampler: what differs is how often the network is asked."""
    import torch
    from hydra.utils import instantiate

    from pti.common.randomness import sample_generator

    raw = torch.zeros(_BATCH, 1, size, size)
    raw[..., size // 4 : -size // 8, size // 3 : -size // 3] = 1000.0

    def translation(name: str, steps: int) -> Callable[[], None]:
        sampler = instantiate(OmegaConf.load(CONF_DIR / "model" / "sampler" / f"{name}.yaml"))

        def run() -> None:
            generators = [sample_generator(0, "", number) for number in range(_BATCH)]
            with torch.inference_mode():
                module.eval().translate(raw, generators, sampler=sampler, steps=steps)

        return run

    names = sorted(path.stem for path in (CONF_DIR / "model" / "sampler").glob("*.yaml"))
    chosen = [("ddpm", 250), *((name, 10) for name in names if name != "ddpm")]
    ways = {f"{name}, {steps} steps": translation(name, steps) for name, steps in chosen}
    return Comparison(f"translation by ldm_demo, {size} × {size} pixels", "images/s", _BATCH, ways)


def _conditioning(side: int) -> Comparison:
    """A training step of the baseline's UNet on latents of ``side`` × ``side``, by way of conditioning."""
    import torch

    from pti.networks.conditional_unet import ConditionalUNet

    def step(conditioning: str) -> Callable[[], None]:
        network = ConditionalUNet(4, conditioning)  # pyright: ignore[reportArgumentType]
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
        x, condition, target = torch.randn(3, 1, 4, side, side, generator=torch.Generator().manual_seed(0))
        timesteps = torch.tensor([500.0])

        def run() -> None:
            optimizer.zero_grad()
            (network(x, timesteps, condition) - target).square().mean().backward()
            optimizer.step()

        return run

    ways = {name: step(name) for name in ("cross_attention", "concat")}
    return Comparison(f"training step of the baseline UNet, latents {side} × {side}", "steps/s", 1, ways)
