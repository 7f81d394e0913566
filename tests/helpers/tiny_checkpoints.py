"""Checkpoints of both stages with tiny networks, as `train` writes them."""

from pathlib import Path
from typing import Any

import torch

from pti.data import tif
from pti.data.input_images import find_images
from pti.runs.constructors import build
from pti.runs.renamed import FORMAT

SIZE = 32
LAYOUT = {"_target_": "pti.data.layouts.paired_folders", "_partial_": True}
AUTOENCODER = {
    "_target_": "monai.networks.nets.autoencoderkl.AutoencoderKL",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 8],
    "num_res_blocks": 1,
    "attention_levels": [False, False],
    "latent_channels": 2,
    "norm_num_groups": 4,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
OPTIMIZER = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3}
VAE = {
    "_target_": "pti.modules.adversarial_vae.AdversarialVAE",
    "autoencoder": AUTOENCODER,
    "discriminator": {
        "_target_": "monai.networks.nets.patchgan_discriminator.PatchDiscriminator",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "channels": 4,
        "num_layers_d": 1,
        "norm": "INSTANCE",
    },
    "normalization": {"_target_": "pti.data.normalization.RangeNormalization"},
    "generator_optimizer": OPTIMIZER,
    "discriminator_optimizer": OPTIMIZER,
    "adversarial": {"_target_": "pti.losses.hinge"},
}
TRANSLATOR = {
    "_target_": "pti.modules.latent_diffusion.LatentDiffusion",
    "first_stage": {
        "_target_": "pti.networks.frozen_autoencoder.FrozenAutoencoder",
        "autoencoder": AUTOENCODER,
        "normalization": {"_target_": "pti.data.normalization.RangeNormalization"},
    },
    "network": {
        "_target_": "pti.networks.conditional_unet.ConditionalUNet",
        "latent_channels": 2,
        "channels": [8, 8],
        "attention_levels": [False, False],
        "num_res_blocks": 1,
        "num_head_channels": 4,
        "norm_num_groups": 4,
    },
    "path": {"_target_": "pti.diffusion.paths.ScaledLinear"},
    "sampler": {"_target_": "pti.diffusion.samplers.ddim", "_partial_": True, "eta": 0.5},
    "sampling_steps": 3,
    "optimizer": OPTIMIZER,
}
SIZES = {
    "_target_": "pti.modules.sizes.PixelSizes",
    "network": {"_target_": "pti.networks.size_network.SizeNetwork", "channels": [4], "grid": 4},
    "normalization": {"_target_": "pti.data.normalization.RangeNormalization"},
    "measures": ["height", "width_half", "area"],
    "optimizer": OPTIMIZER,
}


def save(path: Path, module: torch.nn.Module, model: dict, data: Path, **more: Any) -> Path:
    """Write a checkpoint as `train` does.

    Args:
        path: The file.
        module: The module with its weights.
        model: The configuration that builds the module.
        data: Root of the training data.
        more: Further keys of the configuration's ``data``.
    """
    settings = {"root": str(data), "layout": LAYOUT, "fractions": [0.5, 0.25, 0.25], "split_seed": 3}
    settings |= {"image_size": SIZE, "pixel_mm": 0.15, "val_root": None, "test_root": None, **more}
    content = {"format": FORMAT, "config": {"model": model, "data": settings}}
    torch.save({**content, "state_dict": module.state_dict()}, path)
    return path


def save_translator(path: Path, data: Path, seed: int = 0, **more: Any) -> Path:
    """Write a second stage with random weights, whose outputs are mostly tissue; arguments as `save`."""
    torch.manual_seed(seed)
    module = build(TRANSLATOR, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "edente")])
    with torch.no_grad():
        module.latent_space.first_stage.autoencoder.decoder.blocks[-1].conv.bias.fill_(0.5)
    return save(path, module, TRANSLATOR, data, **more)


def save_sizes(path: Path, data: Path) -> Path:
    """Write a model that predicts a height of about 20 mm for images of 64 pixels of 0.6 mm."""
    torch.manual_seed(0)
    module = build(SIZES, "the test")
    module.normalization.fit([tif.read(image.path).pixels for image in find_images(data / "dente")])
    module.shift.copy_(torch.tensor([20.0, 11.0, 200 / 38.4]) / 38.4)
    module.scale.copy_(torch.tensor([1.5, 1.0, 20 / 38.4]) / 38.4)
    module.fitted.fill_(True)
    return save(path, module, SIZES, data)
