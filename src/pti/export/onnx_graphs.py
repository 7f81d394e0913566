"""The networks of a model as separate modules, for graphs that other programs run.

The graphs work on normalised images and scaled latents, float32, with any batch size. Normalisation stays
outside, as numbers: its jump at the threshold of the background would turn a rounding error of a network
into a difference of whole bone values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.translation import Translation
from pti.networks.detail_transfer import DetailTransfer
from pti.networks.latent_scaling import LatentScaling
from pti.networks.texture_synthesis import TextureSynthesis


@dataclass(frozen=True)
class Graph:
    """A module to export.

    Attributes:
        module: In evaluation mode, on the CPU.
        inputs: Name -> example, of 2 samples.
        outputs: Names of the outputs.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class _Encoder(nn.Module):
    """Image (B, 1, S, S) -> mean of the latents, scaled if there is a scaling, and standard deviation."""

    def __init__(self, autoencoder: nn.Module, scaling: LatentScaling | None) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.scaling = scaling

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.autoencoder.encode(image)
        return (
            (mean, std) if self.scaling is None else (self.scaling.normalize(mean), std / self.scaling.scale)
        )


class _Decoder(nn.Module):
    """Latents (B, C, h, w), scaled if there is a scaling -> image (B, 1, S, S)."""

    def __init__(self, autoencoder: nn.Module, scaling: LatentScaling | None) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.scaling = scaling

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents if self.scaling is None else self.scaling.denormalize(latents))


class _Detail(nn.Module):
    """Translation with the condition's detail, and the share of the fine structure that is lost."""

    def __init__(self, transfer: DetailTransfer) -> None:
        super().__init__()
        self.transfer = transfer

    def forward(self, translation: Tensor, reconstruction: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.transfer.gate(translation, reconstruction)
        return translation + gate * (image - reconstruction), (1 - gate.square()).sqrt()


class _Texture(nn.Module):
    """`TextureSynthesis.parts`; tissue is 1, background 0."""

    def __init__(self, texture: TextureSynthesis) -> None:
        super().__init__()
        self.texture = texture

    def forward(self, image: Tensor, tissue: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.texture.parts(image, tissue, noise)


def graphs_of(module: nn.Module, image_size: int) -> dict[str, Graph]:
    """List the graphs of a model by the names of their files.

    Args:
        module: The trained module.
        image_size: Edge S of its images.

    Raises:
        UsageError: The model makes no images.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator)

    image = random(1, image_size, image_size).mul(0.3).clamp(-1, 1)
    if isinstance(module, AdversarialVAE):
        return _autoencoder(module.inference_autoencoder, None, image)
    if not isinstance(module, Translation):
        raise UsageError(
            f"format=onnx: found a {type(module).__name__}, expected a model that makes images. Use "
            "format=safetensors."
        )
    space, graphs = module.latent_space, {}
    if space is not None:
        graphs = _autoencoder(space.first_stage.autoencoder, space.scaling, image)
        if space.detail_transfer is not None:
            graphs["detail"] = _detail(space.detail_transfer, image, random(1, image_size, image_size))
        if space.texture is not None:
            tissue = torch.zeros_like(image)
            tissue[..., image_size // 8 : -image_size // 8, image_size // 4 : -image_size // 4] = 1
            inputs = {"image": image, "tissue": tissue, "noise": random(1, image_size, image_size)}
            graphs["texture"] = Graph(_Texture(space.texture), inputs, ("depth", "coarse", "texture"))
    x = graphs["decoder"].inputs["latents"] if graphs else image
    inputs = {"x": x, "timesteps": torch.tensor([10.0, 500.0]), "condition": random(*x.shape[1:])}
    graphs["network"] = Graph(module.inference_network, inputs, ("output",))
    return graphs


def _autoencoder(network: Any, scaling: LatentScaling | None, image: Tensor) -> dict[str, Graph]:
    network.use_checkpoint = False  # recomputing activations is for training
    encoder, decoder = _Encoder(network, scaling).eval(), _Decoder(network, scaling).eval()
    with torch.no_grad():
        latents = encoder(image)[0]
    return {
        "encoder": Graph(encoder, {"image": image}, ("mean", "std")),
        "decoder": Graph(decoder, {"latents": latents}, ("image",)),
    }


def _detail(transfer: DetailTransfer, image: Tensor, noise: Tensor) -> Graph:
    """Take as example a reconstruction with a small error, and a translation with a large change."""
    reconstruction = image + 0.02 * noise
    translation, size = reconstruction.clone(), image.shape[-1]
    translation[..., size // 4 : size // 2, size // 4 : size // 2] += 0.7
    inputs = {"translation": translation, "reconstruction": reconstruction, "image": image}
    return Graph(_Detail(transfer), inputs, ("image_with_detail", "lost"))
