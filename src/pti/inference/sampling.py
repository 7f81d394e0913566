"""Sample a batch of images with a trained second stage and write the samples to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from pti.common.errors import UsageError
from pti.common.precision import network_precision
from pti.common.randomness import sample_generator, sample_rank
from pti.common.transfer import to_device
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.diffusion.samplers import Sampler
from pti.inference.devices import FileWork, device_of
from pti.modules.protocols import Translator

SAMPLES = "samples"

_IO_THREADS = 4


@dataclass(frozen=True)
class Sampling:
    """Settings for sampling; None stands for the module's own value.

    Attributes:
        samples: Number of samples per image.
        sampler: A function of `pti.diffusion.samplers`.
        steps: Number of sampler steps.
        guidance_scale: 1 = no guidance.
        seed: Seed of the noise, see `pti.common.randomness.sample_generator`.
        share_noise: Use the same noise for all images of a patient, instead of other noise for each image.
        mirror: Translate the mirrored image for every second sample of a model, and mirror the result.
        models: Number of models that take turns.
        precision: Of the networks, one of `pti.common.precision.PRECISIONS`.
    """

    samples: int = 1
    sampler: Sampler | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    share_noise: bool = False
    mirror: bool = False
    models: int = 1
    precision: str = "float32"

    def resolved(self, *modules: Translator) -> Sampling:
        """Fill in the modules' own settings, unless they differ.

        Deterministic modules give one sample each, two with ``mirror``.

        Raises:
            UsageError: A module does not support a setting, or there are fewer samples than modules.
        """
        given = self.sampler, self.steps, self.guidance_scale
        settings, *others = [module.resolve_sampling(*given) for module in modules]
        for other in others:
            if str(_plain(other)) != str(_plain(settings)):
                settings = dict(zip(settings, given, strict=True))
        samples = self.samples
        if all(module.deterministic for module in modules):
            samples = len(modules) * (1 + self.mirror)
        if samples < len(modules):
            raise UsageError(
                f"samples={samples}: expected at least {len(modules)}, one from each checkpoint in ckpt."
            )
        return replace(self, samples=samples, models=len(modules), **settings)

    def model_of(self, sample: int) -> int:
        """Return the number of the model that a sample is from."""
        return sample % self.models

    def is_mirrored(self, sample: int) -> bool:
        """Tell whether a sample is a translation of the mirrored image."""
        return self.mirror and sample // self.models % 2 == 1

    def generator(self, image: InputImage, sample: int) -> torch.Generator:
        """Create the generator of one sample's noise."""
        return sample_generator(self.seed, self._key(image), sample)

    def rank(self, image: InputImage, sample: int) -> float:
        """Return the quantile of a predicted size that a sample has."""
        return sample_rank(self.seed, self._key(image), sample)

    def _key(self, image: InputImage) -> str:
        return f"patient {image.patient}" if self.share_noise and image.patient else image.name

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, with the sampler as text such as ``ddim(eta=0.5)``."""
        return _plain(vars(self))


@dataclass(frozen=True)
class SampleTask:
    """One sample of one image.

    Attributes:
        source: The image.
        sample: Number of the sample, from 0.
        is_needed: Whether to write it. A sample that an earlier run wrote stays in its batch, so that the
            others are reproduced bit for bit.
    """

    source: InputImage
    sample: int
    is_needed: bool = True

    @property
    def file(self) -> str:
        """Path of the sample, relative to the output folder."""
        return f"{SAMPLES}/{self.source.name}_s{self.sample:02d}.tif"


BatchImages = Mapping[InputImage, tif.TifImage]
"""The images of a batch."""


@dataclass(frozen=True)
class TranslateBatch(FileWork[Sequence[SampleTask], BatchImages, list[np.ndarray], list[SampleTask]]):
    """Sample a batch and write the samples, in raw units, at the size and resolution of the inputs.

    Attributes:
        output_dir: An existing folder.
        image_size: Edge of the square that the module works on, pixels.
        sampling: Settings, resolved.
    """

    output_dir: Path
    image_size: int
    sampling: Sampling

    @override
    def read(self, batch: Sequence[SampleTask]) -> BatchImages:
        sources = list(dict.fromkeys(task.source for task in batch))
        with ThreadPoolExecutor(_IO_THREADS) as threads:
            return dict(zip(sources, threads.map(lambda source: tif.read(source.path), sources), strict=True))

    @override
    def compute(
        self, module: Sequence[Translator], batch: Sequence[SampleTask], contents: BatchImages
    ) -> list[np.ndarray]:
        """Return a raw image for each task, at the size of its input."""
        squares = {
            source: resize.pad_and_resize(image.pixels, self.image_size) for source, image in contents.items()
        }
        translations = np.empty((len(batch), self.image_size, self.image_size), np.float32)
        for number, translator in enumerate(module):
            places = self._places(batch, number)
            translations[places] = self._translate(translator, [batch[at] for at in places], squares)
        raws: dict[int, np.ndarray] = {}
        for source, image in contents.items():
            for number, translator in enumerate(module):
                if places := self._places(batch, number, source):
                    own = translator.at_own_size(image.pixels, translations[places])
                    raws |= zip(places, own, strict=True)
        return [raws[index] for index in range(len(batch))]

    @override
    def write(
        self, batch: Sequence[SampleTask], contents: BatchImages, outputs: list[np.ndarray]
    ) -> list[SampleTask]:
        """Write the samples that are needed; return their tasks."""
        needed = [(task, raw) for task, raw in zip(batch, outputs, strict=True) if task.is_needed]
        with ThreadPoolExecutor(_IO_THREADS) as threads:
            writes = [
                threads.submit(self._write, task, raw, contents[task.source].pixel_mm) for task, raw in needed
            ]
            for write in writes:
                write.result()
        return [task for task, _ in needed]

    def _places(self, tasks: Sequence[SampleTask], model: int, source: InputImage | None = None) -> list[int]:
        """List the tasks of a model, all or of one image."""
        return [
            index
            for index, task in enumerate(tasks)
            if self.sampling.model_of(task.sample) == model and source in (None, task.source)
        ]

    def _translate(
        self, module: Translator, tasks: Sequence[SampleTask], squares: Mapping[InputImage, np.ndarray]
    ) -> np.ndarray:
        """Translate raw dente images, (S, S) each, to the (N, S, S) raw edente images of the tasks."""
        if not tasks:
            return np.empty((0, self.image_size, self.image_size), np.float32)
        sampling = self.sampling
        keys = [(task.source, sampling.is_mirrored(task.sample)) for task in tasks]
        inputs = list(dict.fromkeys(keys))
        mirrored = np.array([mirror for _, mirror in keys])[:, None, None]
        translations = translate_squares(
            module,
            np.stack([squares[source][:, ::-1] if mirror else squares[source] for source, mirror in inputs]),
            [sampling.generator(task.source, task.sample) for task in tasks],
            [sampling.rank(task.source, task.sample) for task in tasks],
            None if len(inputs) == len(keys) else [inputs.index(key) for key in keys],
            sampler=sampling.sampler,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            precision=sampling.precision,
        )
        return np.where(mirrored, translations[..., ::-1], translations)

    def _write(self, task: SampleTask, raw: np.ndarray, pixel_mm: float | None) -> None:
        path = self.output_dir / task.file
        path.parent.mkdir(parents=True, exist_ok=True)
        tif.write(path, raw, pixel_mm)


def translate_squares(
    module: Translator,
    squares: np.ndarray,
    generators: Sequence[torch.Generator],
    ranks: Sequence[float],
    images: Sequence[int] | None = None,
    precision: str = "float32",
    **settings: Any,
) -> np.ndarray:
    """Translate raw dente images (B, S, S) to raw edente images (N, S, S), one sample for each generator.

    A GPU repeats its bits. In another ``precision`` than float32, a sample depends on the batch that it is
    computed in. ``images`` and ``settings`` are those of ``module.translate``.
    """
    device = device_of(module)
    with network_precision(precision, device):
        raw = to_device(torch.from_numpy(squares)[:, None], device)
        translations = module.translate(raw, generators, images=images, ranks=ranks, **settings)
        return translations.float().cpu().numpy()[:, 0]


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the sampler as text."""
    sampler = settings["sampler"]
    return {**settings, "sampler": None if sampler is None else _sampler_text(sampler)}


def _sampler_text(sampler: Sampler) -> str:
    if not isinstance(sampler, partial):
        return getattr(sampler, "__name__", str(sampler))
    options = ", ".join(f"{key}={value}" for key, value in sampler.keywords.items())
    return _sampler_text(sampler.func) + (f"({options})" if options else "")
