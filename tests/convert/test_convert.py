"""Conversion of settings and weights, which the tests write in the formats of PTI-LDM-VAE's scripts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from monai.networks.nets.autoencoderkl import AutoencoderKL
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from monai.networks.schedulers.ddpm import DDPMScheduler

from helpers.in_process import run_command
from helpers.training_setup import make_images
from pti.common.conf_dir import CONF_DIR
from pti.common.randomness import sample_generator
from pti.convert.__main__ import main
from pti.data import tif
from pti.diffusion.samplers import gaussian_noise
from pti.evaluate.__main__ import main as evaluate
from pti.reconstruct.__main__ import main as reconstruct
from pti.runs.checkpoint import open_checkpoint
from pti.train.__main__ import main as train
from pti.translate.__main__ import main as translate

SIZE, STEPS, SCALE = 16, 5, 0.8
AUTOENCODER = {
    "spatial_dims": "@spatial_dims",
    "in_channels": "$@image_channels",
    "out_channels": "@image_channels",
    "latent_channels": "@latent_channels",
    "_latent_channels_comment": "text",
    "channels": [8, 16],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "norm_eps": 1e-05,
    "attention_levels": [False, False],
    "with_encoder_nonlocal_attn": True,
    "with_decoder_nonlocal_attn": True,
}
DIFFUSION = {
    "_target_": "monai.networks.nets.DiffusionModelUNet",
    "spatial_dims": "@spatial_dims",
    "in_channels": "@latent_channels",
    "out_channels": "@latent_channels",
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_head_channels": [0, 8],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "with_conditioning": True,
    "cross_attention_dim": 12,
}
TRAINING = {"batch_size": 4, "patch_size": [SIZE, SIZE], "lr": 5e-5, "kl_weight": 1e-7, "recon_loss": "l1"}
COMMON = {"spatial_dims": 2, "image_channels": 1, "latent_channels": 4, "augment": False}


def networks(definition: dict[str, Any]) -> dict[str, Any]:
    """The arguments of MONAI's class, references resolved by hand."""
    values = {"@spatial_dims": 2, "$@image_channels": 1, "@image_channels": 1, "@latent_channels": 4}
    return {
        key: values.get(value, value) if isinstance(value, str) else value
        for key, value in definition.items()
        if not key.startswith("_")
    }


def filled(network: torch.nn.Module) -> torch.nn.Module:
    """MONAI starts some layers with zeros, behind which nothing would matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the scripts leave it: settings, weights, images."""
    folder = tmp_path_factory.mktemp("original")
    make_images(folder / "data", patients=3, slices=1)
    unified = COMMON | {
        "_comment": "text",
        "data_base_dir": "./data",
        "run_dir": "./runs",
        "data_source": "both",
    }
    unified |= {
        "train_split": 0.8,
        "val_dir": None,
        "wandb": {"enabled": True},
        "autoencoder_def": AUTOENCODER,
    }
    unified |= {"autoencoder_train": TRAINING | {"max_epochs": 7, "val_interval": 2}, "novelty": 1}
    paths = {"data_base_dir": str(folder / "data"), "run_dir": "./runs", "resume_ckpt": False}
    environment = {"vae": paths, "ldm": paths | {"autoencoder_path": "autoencoder_epoch73.pth"}}
    joint = COMMON | {"channel": 0, "sample_axis": 2, "autoencoder_def": AUTOENCODER}
    joint |= {"autoencoder_train": TRAINING, "diffusion_def": DIFFUSION}
    training = {"batch_size": 2, "patch_size": [SIZE, SIZE], "lr": 1e-5, "max_epochs": 51}
    joint |= {"diffusion_train": training | {"lr_scheduler_milestones": [17, 34, 1000]}}
    joint |= {"NoiseScheduler": {"num_train_timesteps": STEPS, "beta_start": 0.0015, "beta_end": 0.4}}
    files = {"vae_config": unified, "environment_tif": environment, "config_train_16g_cond": joint}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    vae, unet = (
        filled(AutoencoderKL(**networks(AUTOENCODER))),
        filled(DiffusionModelUNet(**networks(DIFFUSION))),
    )
    judge = PatchDiscriminator(spatial_dims=2, num_layers_d=3, channels=32, in_channels=1, norm="INSTANCE")
    projector = torch.nn.Linear(4, 12)
    adam = torch.optim.Adam(vae.parameters())
    vae(torch.rand(1, 1, SIZE, SIZE))[0].sum().backward()
    adam.step()
    adam.zero_grad()
    torch.save(vae.state_dict(), folder / "autoencoder_epoch73.pth")
    states = {"autoencoder_state_dict": vae.state_dict(), "discriminator_state_dict": judge.state_dict()}
    states |= {
        "optimizer_g_state_dict": adam.state_dict(),
        "epoch": 73,
        "best_val_loss": 0.1,
        "total_step": 9,
    }
    torch.save(states, folder / "checkpoint_epoch73.pth")
    states = {"unet_state_dict": unet.state_dict(), "condition_projector_state_dict": projector.state_dict()}
    states |= {"optimizer_state_dict": adam.state_dict(), "epoch": 50, "best_val_loss": torch.tensor(0.1)}
    torch.save(states, folder / "checkpoint_epoch50.pth")
    torch.save(unet.state_dict(), folder / "diffusion_unet_epoch50.pth")
    torch.save(
        {"vae": vae.state_dict(), "unet": unet.state_dict(), "projector": projector.state_dict()},
        folder / "all.pt",
    )
    return folder


def convert(there: Path, output: str, *arguments: str, code: int = 0) -> Any:
    return run_command(main, there, f"output_dir={there / output}", *arguments, code=code)


@pytest.fixture(scope="module")
def stage_1(there: Path) -> Path:
    convert(there, "stage_1", "config=vae_config.json", "weights=autoencoder_epoch73.pth")
    return there / "stage_1"


JOINT = "config=[environment_tif.json,config_train_16g_cond.json]"


@pytest.fixture(scope="module")
def stage_2(there: Path, stage_1: Path) -> Path:
    link = f"autoencoder_ckpt={stage_1}/checkpoints/best.ckpt"
    convert(there, "stage_2", JOINT, "weights=checkpoint_epoch50.pth", link, f"scale_factor={SCALE}")
    return there / "stage_2"


def images(there: Path) -> torch.Tensor:
    """Raw dente images as they are stored."""
    paths = sorted((there / "data" / "dente").glob("*.tif"))
    return torch.from_numpy(np.stack([tif.read(path).pixels for path in paths]))[:, None]


def as_the_scripts_read(raw: torch.Tensor) -> torch.Tensor:
    """Axes in ITK's order, and each image's tissue standardised."""
    normalized = []
    for image in raw.mT:
        tissue = image[image != 0]
        normalized.append(torch.where(image != 0, (image - tissue.mean()) / tissue.std(correction=0), 0.0))
    return torch.stack(normalized)


def original(there: Path, name: str, network: torch.nn.Module) -> Any:
    network.load_state_dict(torch.load(there / "all.pt", weights_only=True)[name])
    return network.eval()


@pytest.mark.parametrize("file", ["autoencoder_epoch73.pth", "checkpoint_epoch73.pth"])
def test_the_converted_autoencoder_reconstructs_as_monai(there, file):
    output = file.split(".")[0]
    convert(there, output, "config=vae_config.json", f"weights={file}")
    module: Any = open_checkpoint(there / output / "checkpoints" / "best.ckpt").load_module()
    vae, raw = original(there, "vae", AutoencoderKL(**networks(AUTOENCODER))), images(there)
    with torch.no_grad():
        seen = as_the_scripts_read(raw)
        mean, std = vae.encode(seen)
        expected = vae.decode(mean)
        posterior = module.encode(raw)
        image = module.normalization.normalize(raw, module.normalization.statistics(raw))
        found = module.autoencoder.decode(posterior.mean)
    torch.testing.assert_close(image.mT, seen, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.mean.mT, mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posterior.std.mT, std, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.mT, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, expected, atol=0.01)  # the images are not symmetric
    if "checkpoint" in file:
        state = torch.load(there / file, weights_only=True)["discriminator_state_dict"]
        assert torch.equal(
            module.discriminator.state_dict()["final_conv.conv.weight"].mT, state["final_conv.conv.weight"]
        )


def test_swapped_axes_can_be_switched_off(there):
    convert(there, "as_is", "config=vae_config.json", "weights=autoencoder_epoch73.pth", "swapped_axes=false")
    module: Any = open_checkpoint(there / "as_is" / "checkpoints" / "best.ckpt").load_module()
    state = torch.load(there / "all.pt", weights_only=True)["vae"]
    assert all(torch.equal(module.autoencoder.state_dict()[name], value) for name, value in state.items())


def composed(folder: Path, experiment: str) -> Any:
    """Compose an experiment as ``--config-dir FOLDER experiment=NAME`` does."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", [f"hydra.searchpath=['{folder}']", f"experiment={experiment}"])


def test_the_experiment_of_stage_1_has_the_scripts_settings(there, stage_1):
    config = composed(stage_1, "converted_vae")
    model, data = config.model, config.data
    assert model.normalization._target_.endswith("MaskedZScore")
    assert model.reconstruction._target_.endswith("l1")
    assert (model.kl_weight, model.adv_weight, model.disc_start) == (1e-7, 0.5, 6)
    assert model.generator_optimizer.lr == model.discriminator_optimizer.lr == 5e-5
    assert model.autoencoder.channels == [8, 16]
    assert model.autoencoder.norm_eps == 1e-5
    assert (data.sources, data.image_size, data.batch_size) == ("both", SIZE, 4)
    assert data.fractions == [0.8, 0.1, 0.1]
    assert (config.trainer.max_epochs, config.trainer.check_val_every_n_epoch) == (7, 2)
    text = (stage_1 / "experiment" / "converted_vae.yaml").read_text()
    assert "These settings have no counterpart and are left out: novelty." in text
    assert "log-variance" in text
    assert "split by slice" in text
    assert open_checkpoint(stage_1 / "checkpoints" / "best.ckpt").config["data"]["sources"] == "both"


def test_the_experiment_of_stage_2_has_the_scripts_settings(there, stage_1, stage_2):
    config = composed(stage_2, "converted_ldm")
    assert config.autoencoder_ckpt == str(stage_1 / "checkpoints" / "best.ckpt")
    assert config.model.network.num_head_channels == 8
    assert config.model.network.position == "none"
    assert (config.model.path.steps, config.model.path.beta_end) == (STEPS, 0.4)
    assert config.model.sampler.clip == 1
    assert config.model.ema_decay is None
    assert config.data.root == str(there / "data")
    assert config.trainer.max_epochs == 51
    schedule = instantiate(config.model.lr_schedule)
    factors = [schedule.factor(step, 51) for step in (0, 16, 17, 33, 34, 50)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_scripts_loop_gives_the_same_samples(there, stage_2):
    """Ancestral sampling with MONAI's scheduler, as the scripts call it, on transposed noise."""
    module: Any = open_checkpoint(stage_2 / "checkpoints" / "best.ckpt").load_module()
    raw, names = images(there), ["a", "b", "c"]
    found = module.latent_space.encode_condition(raw)
    generators = [sample_generator(0, name, 0) for name in names]
    samples: list[torch.Tensor] = []
    module.translate(raw, generators, progress=lambda step, x, estimate: samples.append(x))

    vae = original(there, "vae", AutoencoderKL(**networks(AUTOENCODER)))
    unet = original(there, "unet", DiffusionModelUNet(**networks(DIFFUSION)))
    projector = original(there, "projector", torch.nn.Linear(4, 12))
    scheduler = DDPMScheduler(
        num_train_timesteps=STEPS, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.4
    )
    assert scheduler.clip_sample
    generators = [sample_generator(0, name, 0) for name in names]
    with torch.no_grad():
        latent = vae.encode(as_the_scripts_read(raw))[0]
        context = projector(latent.permute(0, 2, 3, 1).reshape(3, -1, 4))
        torch.testing.assert_close(found.mT, latent * SCALE, atol=1e-4, rtol=1e-4)
        x = gaussian_noise(found, generators).mT
        scheduler.set_timesteps(STEPS)
        for step, time in enumerate(scheduler.timesteps.tolist()):
            epsilon = unet(x, timesteps=torch.full((3,), time), context=context)
            noise = gaussian_noise(found, generators).mT if time else None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "randn", lambda *given, noise=noise, **named: noise)
                x, _ = scheduler.step(epsilon, time, x)
            torch.testing.assert_close(samples[step].mT, x, atol=1e-3, rtol=1e-3)


def test_the_scale_can_be_measured(there, stage_1):
    link = f"autoencoder_ckpt={stage_1}/checkpoints/best.ckpt"
    done = convert(there, "measured", JOINT, "weights=checkpoint_epoch50.pth", link)
    module: Any = open_checkpoint(there / "measured" / "checkpoints" / "best.ckpt").load_module()
    paths = sorted((there / "data" / "edente").glob("*.tif"))
    raw = torch.from_numpy(np.stack([tif.read(path).pixels for path in paths]))[:, None]
    posterior = module.latent_space.first_stage.encode(raw)
    spread = (posterior.mean.var(correction=0) + posterior.std.square().mean()).sqrt()
    assert float(module.latent_space.scaling.scale[0, 0, 0, 0]) == pytest.approx(float(spread), rel=1e-3)
    assert "scale_factor" in done.stderr


def test_the_axes_are_explained_and_the_next_command_reads_the_scripts_images(there):
    arguments = ("config=vae_config.json", "weights=autoencoder_epoch73.pth")
    lines = convert(there, "endings", *arguments).stdout.splitlines()
    assert any(line.startswith("Note: The kernels were transposed") for line in lines)
    assert lines[-1].endswith("best.ckpt input_dir=data/edente")
    unchanged = convert(there, "unchanged", *arguments, "swapped_axes=false").stdout
    assert "transposed" not in unchanged


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "config is not set"),
        (("config=vae_config.json", "weights=nowhere.pth"), 2, "weights=nowhere.pth: expected a file"),
        ((JOINT, "weights=diffusion_unet_epoch50.pth"), 2, "checkpoint_epochN.pth, which holds both"),
        ((JOINT, "weights=checkpoint_epoch50.pth"), 2, "autoencoder_ckpt is not set"),
        (("config=vae_config.json", "weights=checkpoint_epoch50.pth"), 2, "found no settings of stage 2"),
        (("config=environment_tif.json",), 1, "no autoencoder_def"),
        (("config=other.json", "weights=autoencoder_epoch73.pth"), 1, "differ: "),
        (("config=broken.json",), 1, "@nothing"),
    ],
)
def test_what_is_missing_or_wrong_is_said(there, arguments, code, message):
    settings = json.loads((there / "vae_config.json").read_text())
    settings["autoencoder_def"]["channels"] = [8, 24]
    (there / "other.json").write_text(json.dumps(settings))
    settings["autoencoder_def"]["latent_channels"] = "@nothing"
    (there / "broken.json").write_text(json.dumps(settings))
    assert message in convert(there, "refused", *arguments, code=code).stderr


@pytest.mark.slow
def test_commands_accept_the_checkpoints(there, stage_1, stage_2, tmp_path):
    one, two = (folder / "checkpoints" / "best.ckpt" for folder in (stage_1, stage_2))
    dente = f"input_dir={there / 'data' / 'dente'}"
    run_command(reconstruct, tmp_path, f"ckpt={one}", dente, f"output_dir={tmp_path / 'reconstructed'}")
    assert len(list((tmp_path / "reconstructed").rglob("*.tif"))) >= 3
    run_command(
        translate, tmp_path, f"ckpt={two}", dente, "samples=1", f"output_dir={tmp_path / 'translated'}"
    )
    assert len(list((tmp_path / "translated" / "samples").glob("*.tif"))) == 3
    data = (f"data.root={there / 'data'}", "split=train", "samples=2", "distributions=false")
    run_command(evaluate, tmp_path, f"ckpt={two}", *data, f"output_dir={tmp_path / 'evaluated'}")
    assert (tmp_path / "evaluated" / "report.html").is_file()


@pytest.mark.slow
def test_training_starts_from_the_checkpoints(there, stage_1, stage_2, tmp_path):
    shape = [
        "data.image_size=16",
        "data.batch_size=1",
        "data.num_workers=0",
        "data.fractions=[0.6,0.4,0]",
        f"data.root={there / 'data'}",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "model.network.channels=[8,16]",
        "model.network.attention_levels=[false,true]",
        "model.network.num_res_blocks=1",
        "model.network.num_head_channels=8",
        "model.network.norm_num_groups=4",
        "model.network.cross_attention_dim=12",
        "model.network.position=none",
        "model.sampling_steps=2",
        "model.validation_images=1",
        "trust_images=0",
    ]
    links = (f"autoencoder_ckpt={stage_1 / 'checkpoints' / 'best.ckpt'}", "init_strict=true")
    origin = f"init_from={stage_2 / 'checkpoints' / 'best.ckpt'}"
    done = run_command(train, tmp_path, "experiment=ldm_baseline", *shape, *links, origin)
    assert "The autoencoder on " in done.stdout
    assert "network: " in done.stdout
