"""Trained models for other Python programs: NumPy arrays of raw values in and out. See `pti.load`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.common.precision import require_precision
from pti.common.randomness import sample_generator, sample_rank
from pti.data import resize
from pti.data.layouts import CompletePair
from pti.data.normalization import RangeNormalization
from pti.diffusion.samplers import Sampler
from pti.inference.arrays import Images, image_list, shaped_like, to_numpy
from pti.inference.devices import batched, choose_devices, named_device
from pti.inference.held_out import complete_pairs
from pti.inference.reconstructions import training_bounds
from pti.inference.sampling import translate_squares
from pti.modules.protocols import Autoencoder, SizePredictor, Translator, autoencoder_of
from pti.runs.checkpoint import Checkpoint, open_checkpoint
from pti.runs.exported import hash_model

_BATCH = 32
"""Samples that are drawn at a time."""


class Model:
    """A trained model for arrays; `pti.load` opens one.

    Attributes:
        module: The LightningModule, in evaluation mode.
        config: The resolved configuration of its training, as plain dicts and lists.
        path: Absolute path of the checkpoint, or of the folder of an exported model.
        image_size: Edge of the square that the networks work on, pixels. Images of other sizes are padded,
            resized, and restored afterwards.
        pixel_mm: Edge of a pixel in mm, for images that state none.
    """

    def __init__(self, module: nn.Module, checkpoint: Checkpoint) -> None:
        data = checkpoint.config["data"]
        self.module: nn.Module = module
        self.config: dict[str, Any] = checkpoint.config
        self.path: Path = checkpoint.path
        self.image_size: int = int(data["image_size"])
        self.pixel_mm: float = float(data["pixel_mm"])

    @classmethod
    def load(cls, ckpt: str | Path, device: str = "auto") -> Model:
        """Open a checkpoint; see `pti.load`."""
        chosen = choose_devices()[0] if device == "auto" else named_device(device)
        opened = open_checkpoint(str(ckpt))
        return cls(opened.load_module(chosen), opened)

    def pairs(self, split: str = "test", root: str | Path | None = None) -> list[CompletePair]:
        """List the pairs of images of one split, with the split of the model's training.

        Args:
            split: ``train``, ``val`` or ``test``. The model has not seen the patients of ``test``.
            root: Folder of the data set; None = that of the training.

        Returns:
            The complete pairs, sorted by name: ``pair.condition`` and ``pair.target`` are files.

        Raises:
            UsageError: Unknown split, or the model was exported without the folder of its training.
            DataError: The data set can't be used.
        """
        return complete_pairs(self.config["data"], split, root, str(self.path))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint, by which a ``calibration.json`` names the model that it belongs to."""
        return hash_model(self.path)

    @property
    def data_range(self) -> float | None:
        """Raw values from background to the top of the training tissue: the range of PSNR and SSIM.

        None for a model that normalises each image by its own statistics.
        """
        bounds = training_bounds(self.module.normalization)  # pyright: ignore[reportArgumentType]
        return None if bounds is None else float(bounds[1] - min(bounds[0], 0.0))

    @property
    def autoencoder(self) -> Autoencoder:
        """The model's autoencoder: stage 1 itself, or the one that stage 2 works in.

        Raises:
            UsageError: The model has none, because it works on pixels.
        """
        autoencoder = autoencoder_of(self.module)
        if autoencoder is None:
            raise UsageError(f"found {type(self.module).__name__}, expected a model with an autoencoder.")
        return autoencoder

    @torch.inference_mode()
    def encode(self, images: Images) -> np.ndarray:
        """Encode images as latents.

        Args:
            images: Raw images.

        Returns:
            (N, C, h, w) float32: the means of the posteriors, not scaled.

        Raises:
            UsageError: The model has no autoencoder.
            ValueError: An array has another shape, or values that are not finite.
        """
        return to_numpy(self.autoencoder.encode(self._squares(image_list(images))).mean)

    @torch.inference_mode()
    def decode(self, latents: np.ndarray, like: Images | None = None) -> np.ndarray:
        """Decode latents to images.

        Args:
            latents: (N, C, h, w), from `encode` or anything between such latents.
            like: The N images that were encoded. Needed only by a model that normalises each image by its
                own statistics.

        Returns:
            (N, S, S) float32 raw images with S = ``image_size``.

        Raises:
            UsageError: ``like`` is needed and missing, or the model has no autoencoder.
            ValueError: An array of ``like`` has another shape, or values that are not finite.
        """
        autoencoder = self.autoencoder
        if like is None and not isinstance(autoencoder.normalization, RangeNormalization):
            raise UsageError(
                "like: this model normalises each image by its own statistics; pass the images that were "
                "encoded."
            )
        raw = torch.zeros(len(latents), 1, 1, 1) if like is None else self._squares(image_list(like))
        statistics = autoencoder.normalization.statistics(raw.to(self._device))
        tensor = torch.from_numpy(np.asarray(latents, np.float32)).to(self._device)
        return to_numpy(autoencoder.decode(tensor, statistics))[:, 0]

    @torch.inference_mode()
    def reconstruct(self, images: Images) -> np.ndarray | list[np.ndarray]:
        """Encode images and decode them again.

        Args:
            images: Raw images.

        Returns:
            Raw images in the shape of ``images``: (H, W), (N, H, W), or a list of (H, W).

        Raises:
            UsageError: The model has no autoencoder.
            ValueError: An array has another shape, or values that are not finite.
        """
        listed = image_list(images)
        squares, autoencoder = self._squares(listed), self.autoencoder
        statistics = autoencoder.normalization.statistics(squares)
        decoded = to_numpy(autoencoder.decode(autoencoder.encode(squares).mean, statistics))[:, 0]
        shapes = [(image.shape[0], image.shape[1]) for image in listed]
        return shaped_like(
            [resize.restore_size(square, shape) for square, shape in zip(decoded, shapes, strict=True)],
            images,
        )

    @torch.inference_mode()
    def translate(
        self,
        images: Images,
        samples: int = 1,
        steps: int | None = None,
        seed: int = 0,
        names: Sequence[str] | None = None,
        guidance_scale: float | None = None,
        sampler: Sampler | None = None,
        precision: str = "float32",
    ) -> np.ndarray | list[np.ndarray]:
        """Sample edente images for dente images.

        Args:
            images: Raw dente images.
            samples: Number of samples per image.
            steps: Number of sampler steps; None = the checkpoint's own.
            seed: Seed of the noise.
            names: Names of the images; the command ``translate`` draws the same samples for the same names
                and seed. None = ``"0"``, ``"1"``, ….
            guidance_scale: 1 = no guidance; None = the checkpoint's own.
            sampler: A function of `pti.diffusion.samplers`; None = the checkpoint's own.
            precision: Of the denoiser: ``float32``, ``tf32`` or ``bf16``.

        Returns:
            Raw edente images: (samples, H, W) for one image, (N, samples, H, W) for an array, a list of
            (samples, H, W) for a sequence.

        Raises:
            UsageError: The checkpoint isn't one of stage 2, or it or the device does not support a setting.
            ValueError: An array has another shape, or values that are not finite.
        """
        module = self.module
        if not isinstance(module, Translator):
            raise UsageError(
                f"found {type(module).__name__}, expected a checkpoint of stage 2, such as best:ldm_demo."
            )
        require_precision(precision, self._device)
        listed = image_list(images)
        names = [str(number) for number in range(len(listed))] if names is None else names
        squares = np.stack([resize.pad_and_resize(image, self.image_size) for image in listed])
        settings = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
        batches = []
        tasks = [(image, sample) for image in range(len(listed)) for sample in range(samples)]
        for batch in batched(tasks, _BATCH):
            used = list(dict.fromkeys(image for image, _ in batch))
            generators = [sample_generator(seed, names[image], sample) for image, sample in batch]
            ranks = [sample_rank(seed, names[image], sample) for image, sample in batch]
            places = [used.index(image) for image, _ in batch]
            batches.append(
                translate_squares(module, squares[used], generators, ranks, places, precision, **settings)
            )
        by_image = np.concatenate(batches).reshape(len(listed), samples, *squares.shape[1:])
        return shaped_like(
            [module.at_own_size(image, raws) for image, raws in zip(listed, by_image, strict=True)], images
        )

    @torch.inference_mode()
    def predict_sizes(self, images: Images, pixel_mm: float | None = None) -> dict[str, np.ndarray]:
        """Predict the sizes of the edente bones of dente images, without an image in between.

        Args:
            images: Raw dente images.
            pixel_mm: Edge of their pixels, mm; None = ``data.pixel_mm`` of the training.

        Returns:
            Measure, such as ``height`` -> (N, 39) quantiles 0.025, 0.05, … 0.975, mm (``area``: mm²).

        Raises:
            UsageError: The checkpoint is not one of ``experiment=sizes_ridge``, ``sizes`` or
                ``sizes_latent``.
            ValueError: An array has another shape, or values that are not finite.
        """
        module = self.module
        if not isinstance(module, SizePredictor):
            raise UsageError(
                f"found {type(module).__name__}, expected one that predicts sizes, such as best:sizes."
            )
        listed, size = image_list(images), self.image_size
        mm = self.pixel_mm if pixel_mm is None else pixel_mm
        edges = [resize.pixel_mm_after((image.shape[0], image.shape[1]), size, mm) for image in listed]
        quantiles = to_numpy(
            module.predict_sizes(self._squares(listed), torch.tensor(edges, device=self._device))
        )
        return {name: quantiles[:, index] for index, name in enumerate(module.measures)}

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _squares(self, images: Sequence[np.ndarray]) -> Tensor:
        squares = np.stack([resize.pad_and_resize(image, self.image_size) for image in images])
        return torch.from_numpy(squares)[:, None].to(self._device)
