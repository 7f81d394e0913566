"""The graphs of each kind of model: encoder, denoiser and decoder, or one graph of a regression."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from pti.common.errors import UsageError
from pti.data.normalization import RangeNormalization
from pti.diffusion.samplers import first_step, gaussian_noise
from pti.export.onnx_graph import (
    Generators,
    Graph,
    Values,
    decode,
    encode,
    example_images,
    latent_shape,
    normalize,
)
from pti.modules.adversarial_vae import AdversarialVAE
from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.regression import LatentRegression, Regression


class VaeEncoder(Graph):
    """The encoder of stage 1: the posterior's mean and standard deviation."""

    name, inputs, outputs = "encoder", ("image",), ("mean", "std")

    def __init__(self, model: AdversarialVAE, image_size: int) -> None:
        super().__init__(model, image_size)
        self.autoencoder, self.normalization = model.inference_autoencoder, model.normalization
        self._encode = model.encode

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        return self.autoencoder.encode(normalize(self.normalization, values["image"]))

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        return {"image": example_images(self.normalization, self.image_size, generators)}

    @override
    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        posterior = self._encode(values["image"])
        return posterior.mean, posterior.std


class VaeDecoder(Graph):
    """The decoder of stage 1, with ``image`` where each image is normalised by its own statistics."""

    name, outputs, share = "decoder", ("reconstruction",), 0.99

    def __init__(self, model: AdversarialVAE, image_size: int) -> None:
        super().__init__(model, image_size)
        self.autoencoder, self.normalization = model.inference_autoencoder, model.normalization
        own = not isinstance(model.normalization, RangeNormalization)
        self.inputs = ("latents", "image") if own else ("latents",)
        self._encode, self._decode = model.encode, model.decode

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        return (
            self.normalization.denormalize(
                self.autoencoder.decode(values["latents"]), self._statistics(values)
            ),
        )

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        image = example_images(self.normalization, self.image_size, generators)
        values = {"latents": self._encode(image).mean, "image": image}
        return {name: values[name] for name in self.inputs}

    @override
    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        return (self._decode(values["latents"], self._statistics(values)),)

    def _statistics(self, values: Values) -> Tensor:
        return self.normalization.statistics(values[self.inputs[-1]])


class ConditionEncoder(Graph):
    """The scaled latents of a dente image, and sizes of the edente bone where the model has them."""

    name = "encoder"

    def __init__(self, model: LatentDiffusion, image_size: int) -> None:
        super().__init__(model, image_size)
        self.space, self.size_condition = model.latent_space, model.size_condition
        sized = self.size_condition is not None
        self.inputs = ("image", "size_noise") if sized else ("image",)
        self.outputs = ("latents", "sizes") if sized else ("latents",)

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        latents = encode(self.space, values["image"])
        if self.size_condition is None:
            return (latents,)
        images = normalize(self.space.normalization, values["image"])
        return latents, self.size_condition.sizes_from(images, values["size_noise"])

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        count = 0 if self.size_condition is None else len(self.size_condition.measures)
        noise = torch.stack([torch.randn(count, generator=generator) for generator in generators])
        image = example_images(self.space.normalization, self.image_size, generators)
        return {name: {"image": image, "size_noise": noise}[name] for name in self.inputs}

    @override
    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        latents = self.space.encode_condition(values["image"])
        if self.size_condition is None:
            return (latents,)
        images = normalize(self.space.normalization, values["image"])
        return latents, self.size_condition.draw(images, generators)


class Denoiser(Graph):
    """One evaluation of the network: the path's regression target at x."""

    name, outputs = "denoiser", ("output",)

    def __init__(self, model: LatentDiffusion, image_size: int) -> None:
        super().__init__(model, image_size)
        self.network, self.size_condition = model.inference_network, model.size_condition
        self.shape = latent_shape(model.latent_space, image_size)
        sizes = () if self.size_condition is None else ("sizes",)
        self.inputs = ("x", "timestep", "latents", *sizes)

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        given = values["latents"]
        if self.size_condition is not None:
            given = torch.cat([given, self.size_condition.maps(values["sizes"], given)], dim=1)
        return (self.network(values["x"], values["timestep"], given),)

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        like = torch.empty(len(generators), *self.shape)
        values = {"x": gaussian_noise(like, generators), "latents": gaussian_noise(like, generators)}
        values["timestep"] = torch.cat([1000 * torch.rand(1, generator=one) for one in generators])
        if self.size_condition is not None:
            like = torch.empty(len(generators), len(self.size_condition.measures))
            values["sizes"] = gaussian_noise(like, generators)
        return {name: values[name] for name in self.inputs}


class TranslationDecoder(Graph):
    """Sampled latents to a raw edente image, with the detail and the texture that the model adds.

    Inputs: ``x0``, the sampled latents; ``latents``, those of the condition, ``image``, the condition, and
    ``texture_noise``, N(0, 1) in the image's shape, where the model needs them.
    """

    name, outputs, share = "decoder", ("translation",), 0.99

    def __init__(self, model: LatentDiffusion, image_size: int) -> None:
        super().__init__(model, image_size)
        self.space = space = model.latent_space
        is_mean = getattr(model.sampler, "func", model.sampler) is first_step
        textured = space.texture is not None and not is_mean
        own = not isinstance(space.normalization, RangeNormalization)
        needed = {
            "x0": True,
            "latents": space.detail_transfer is not None,
            "image": own or space.detail_transfer is not None,
            "texture_noise": textured,
        }
        self.inputs = tuple(name for name, is_needed in needed.items() if is_needed)

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        reconstruction = decode(self.space, values["latents"]) if "latents" in values else None
        translation = decode(self.space, values["x0"])
        raw = values.get("image", translation)
        return (self.space.finish(raw, translation, reconstruction, values.get("texture_noise")),)

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        size = self.image_size
        # Drawn first, as `LatentSpace.decode` does with fresh generators.
        values = {"texture_noise": gaussian_noise(torch.empty(len(generators), 1, size, size), generators)}
        values["image"] = example_images(self.space.normalization, size, generators)
        values["latents"] = self.space.encode_condition(values["image"])
        change = gaussian_noise(values["latents"], generators)
        change[..., : change.shape[-1] // 2] = 0  # half of each image stays the same
        values["x0"] = values["latents"] + change
        return {name: values[name] for name in self.inputs}

    @override
    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        image = values.get("image", torch.zeros(len(values["x0"]), 1, 1, 1))
        textured = "texture_noise" in self.inputs
        return (self.space.decode(image, values["x0"], generators if textured else None),)


class OnePass(Graph):
    """A regression: dente image to edente image."""

    name, inputs, outputs, share = "translator", ("image",), ("translation",), 0.99

    def __init__(self, model: Regression | LatentRegression, image_size: int) -> None:
        super().__init__(model, image_size)
        self.network, self.space, self.normalization = (
            model.inference_network,
            model.latent_space,
            model.normalization,
        )
        self._predict = model.predict

    @override
    def compute(self, values: Values) -> tuple[Tensor, ...]:
        image, space = values["image"], self.space
        if space is None:
            statistics = self.normalization.statistics(image)
            translation = self._step(normalize(self.normalization, image))
            return (self.normalization.denormalize(translation, statistics),)
        latents = encode(space, image)
        reconstruction = None if space.detail_transfer is None else decode(space, latents)
        return (space.finish(image, decode(space, self._step(latents)), reconstruction, None),)

    def _step(self, condition: Tensor) -> Tensor:
        return condition + self.network(condition, torch.zeros_like(condition[:, 0, 0, 0]), condition)

    @override
    def example(self, generators: Generators) -> dict[str, Tensor]:
        return {"image": example_images(self.normalization, self.image_size, generators)}

    @override
    def expected(self, values: Values, generators: Generators) -> tuple[Tensor, ...]:
        return (self._predict(values["image"]),)


def graphs_of(model: nn.Module, image_size: int) -> list[Graph]:
    """List the graphs of a trained model.

    Raises:
        UsageError: it is of a kind that has none.
    """
    if isinstance(model, AdversarialVAE):
        return [VaeEncoder(model, image_size), VaeDecoder(model, image_size)]
    if isinstance(model, LatentDiffusion):
        return [kind(model, image_size) for kind in (ConditionEncoder, Denoiser, TranslationDecoder)]
    if isinstance(model, (Regression, LatentRegression)):
        return [OnePass(model, image_size)]
    raise UsageError(
        f"format=onnx: found a model of the class {type(model).__name__}, expected an autoencoder, a latent "
        "diffusion model or a regression of images. Use format=safetensors."
    )
