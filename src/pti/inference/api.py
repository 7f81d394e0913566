"""Trained models for other Python programs: NumPy arrays in raw units, in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.common.randomness import sample_generator
from pti.data import resize
from pti.data.normalization import Normalization
from pti.inference.devices import choose_devices
from pti.runs import checkpoint

Images = np.ndarray | Sequence[np.ndarray]
"""Raw images: one (H, W), several (N, H, W), or a sequence of (H, W) of any sizes; background exactly 0."""


class Model:
    """A trained module; `pti.load` makes one.

    Attributes:
        module: the LightningModule, in evaluation mode.
        image_size: side of the square that the networks see, pixels; other images are padded and resized.
        config: the resolved configuration of the training, plain.
    """

    def __init__(self, module: nn.Module, config: dict[str, Any]) -> None:
        self.module = module
        self.config = config
        self.image_size = int(config["data"]["image_size"])
        self._autoencoder: Any = getattr(module, "first_stage", module)

    @classmethod
    def load(cls, ckpt: str | Path, device: str = "auto") -> Model:
        """See `pti.load`."""
        path = checkpoint.resolve(str(ckpt))
        chosen = choose_devices()[0] if device == "auto" else _device(device)
        return cls(checkpoint.load(path, chosen), checkpoint.read(path)["config"])

    def encode(self, images: Images) -> np.ndarray:
        """Latents (N, C, h, w) float32: the means of the posteriors, not scaled."""
        squares = self._squares(_listed(images))
        return _array(self._needs("encode")(squares).mean)

    def decode(self, latents: np.ndarray, like: Images | None = None) -> np.ndarray:
        """Raw images (N, S, S), S = ``image_size``, of latents (N, C, h, w).

        Args:
            latents: as `encode` gives them, or anything between.
            like: the images that set the scale, for a normalisation by each image's own statistics; else
                unused.

        Raises:
            UsageError: ``like`` is needed and missing.
        """
        decode = self._needs("decode")
        normalization: Normalization = self._autoencoder.normalization
        if like is None and not hasattr(normalization, "bounds"):
            raise UsageError(
                "like: this model normalises each image by itself; give the images that were encoded."
            )
        given = torch.zeros(len(latents), 1, 1, 1) if like is None else self._squares(_listed(like))
        statistics = normalization.statistics(given.to(self._device))
        return _array(decode(torch.from_numpy(np.asarray(latents, np.float32)).to(self._device), statistics))[
            :, 0
        ]

    def reconstruct(self, images: Images) -> np.ndarray | list[np.ndarray]:
        """The images through the autoencoder and back, in the shape that they came in."""
        listed = _listed(images)
        squares = self._squares(listed)
        statistics = self._autoencoder.normalization.statistics(squares)
        found = self._needs("decode")(self._needs("encode")(squares).mean, statistics)
        return _as_given(
            [self._back(pixels, image) for pixels, image in zip(_array(found), listed, strict=True)], images
        )

    def translate(
        self,
        images: Images,
        samples: int = 1,
        steps: int | None = None,
        seed: int = 0,
        names: Sequence[str] | None = None,
        guidance_scale: float | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Dente images to edente images, one batch for each sample.

        Args:
            images: raw.
            samples: for each image.
            steps: of the sampler; None = the checkpoint's own.
            seed: of the noise.
            names: of the images: with the same names and seed, the samples of the command ``translate``; None
                = their numbers.
            guidance_scale: 1 = none; None = the checkpoint's own.

        Returns:
            (samples, H, W) for one image, (N, samples, H, W) for an array, a list of (samples, H, W) for a
            sequence.

        Raises:
            UsageError: the checkpoint isn't one of stage 2.
        """
        if not hasattr(self.module, "translate"):
            raise UsageError(
                f"found {type(self.module).__name__}, expected a checkpoint of stage 2, such as "
                "best:ldm_demo."
            )
        listed = _listed(images)
        names = [str(number) for number in range(len(listed))] if names is None else names
        squares = self._squares(listed)
        drawn = []
        with torch.inference_mode():
            for sample in range(samples):
                generators = [sample_generator(seed, name, sample) for name in names]
                found: Tensor = self.module.translate(  # pyright: ignore[reportCallIssue]
                    squares, generators, steps=steps, guidance_scale=guidance_scale
                )
                drawn.append(_array(found))
        own_size: Any = self.module.at_own_size
        stacks = [
            own_size(image, np.stack([sample[index, 0] for sample in drawn]))
            for index, image in enumerate(listed)
        ]
        return _as_given(stacks, images)

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _needs(self, method: str) -> Any:
        found = getattr(self._autoencoder, method, None)
        if found is None:
            raise UsageError(
                f"found {type(self.module).__name__}, expected a model with an autoencoder to {method}."
            )
        return torch.inference_mode()(found)

    def _squares(self, images: Sequence[np.ndarray]) -> Tensor:
        squares = np.stack([resize.pad_and_resize(image, self.image_size) for image in images])
        return torch.from_numpy(squares)[:, None].to(self._device)

    @staticmethod
    def _back(pixels: np.ndarray, image: np.ndarray) -> np.ndarray:
        height, width = image.shape
        return resize.restore_size(pixels[0], (height, width))


def _listed(images: Images) -> list[np.ndarray]:
    """Each (H, W) float32. Raises ``ValueError`` for other shapes and values that aren't finite."""
    listed = [images] if isinstance(images, np.ndarray) and images.ndim == 2 else list(images)
    found = [np.asarray(image, np.float32) for image in listed]
    if not found or any(image.ndim != 2 for image in found):
        raise ValueError(
            f"raw images (H, W) or (N, H, W) are expected; found {[image.shape for image in found]}"
        )
    if not all(np.isfinite(image).all() for image in found):
        raise ValueError("raw images with finite values are expected; found NaN or infinity")
    return found


def _as_given(results: list[np.ndarray], images: Images) -> np.ndarray | list[np.ndarray]:
    if not isinstance(images, np.ndarray):
        return results
    return results[0] if images.ndim == 2 else np.stack(results)


def _array(found: Tensor) -> np.ndarray:
    return found.float().cpu().numpy()


def _device(name: str) -> torch.device:
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name}: not usable here ({str(error).splitlines()[0]}).") from None
