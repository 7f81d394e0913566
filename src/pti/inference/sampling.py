"""A trained second stage at work: a batch of images becomes files of samples."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.common.errors import UsageError
from pti.common.randomness import sample_generator
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.diffusion.samplers import Sampler

SAMPLES = "samples"

_WRITERS = 4


@dataclass(frozen=True)
class Sampling:
    """How images are sampled; what is None is the module's own.

    Attributes:
        samples: for each image.
        sampler: a function of `pti.diffusion.samplers`.
        steps: of the sampler.
        guidance_scale: 1 = none.
        seed: of the noise, see `pti.common.randomness.sample_generator`.
    """

    samples: int = 1
    sampler: Sampler | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0

    def resolved(self, module: nn.Module) -> "Sampling":
        """What the module can do of it, with its own settings where there were none.

        A deterministic module gives one sample.

        Raises:
            UsageError: steps that its path doesn't have, guidance that it wasn't trained for, or a sampler
                for a module without.
        """
        if module.deterministic:
            self._refuse_settings_of(module)
            return replace(self, samples=1)
        own = {"sampler": "sampler", "steps": "sampling_steps", "guidance_scale": "guidance_scale"}
        missing = {name: getattr(module, of) for name, of in own.items() if getattr(self, name) is None}
        found = replace(self, **missing)
        try:
            module.path.sampling_times(found.steps)  # pyright: ignore
        except ValueError as error:
            raise UsageError(f"steps={found.steps}: {error}.") from None
        if found.guidance_scale != 1 and not module.condition_dropout:
            raise UsageError(
                f"guidance_scale={found.guidance_scale}: found a model that can't be guided, since it was "
                "trained without condition dropout. Set guidance_scale=1, or train with "
                "model.condition_dropout=0.1."
            )
        return found

    def _refuse_settings_of(self, module: nn.Module) -> None:
        given = [key for key in ("sampler", "steps", "guidance_scale") if getattr(self, key) is not None]
        if given:
            raise UsageError(
                f"{', '.join(given)}: {type(module).__name__} answers in one pass, without a sampler. Leave "
                "it out, or choose the checkpoint of a diffusion model."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, the sampler as ``ddim(eta=0.5)``."""
        return {**vars(self), "sampler": None if self.sampler is None else _described(self.sampler)}


@dataclass(frozen=True)
class SampleTask:
    """One sample that is to be made.

    Attributes:
        source: of the image.
        sample: counted from 0.
        is_needed: whether it has to be written: it stands in its batch also where it was written earlier, so
            that the others come out the same to the last bit.
    """

    source: InputImage
    sample: int
    is_needed: bool = True

    @property
    def file(self) -> str:
        """What it is written to, below the output folder."""
        return f"{SAMPLES}/{self.source.name}_s{self.sample:02d}.tif"


@dataclass(frozen=True)
class Translate:
    """Makes a batch of samples and writes them: raw units, the input's own size and resolution.

    Attributes:
        output_dir: existing folder.
        image_size: side of the square that the module sees, pixels.
        sampling: how.
    """

    output_dir: Path
    image_size: int
    sampling: Sampling

    def __call__(self, module: nn.Module, items: Sequence[SampleTask]) -> list[SampleTask]:
        """Those items of the batch that were needed; their files are written."""
        sources = list(dict.fromkeys(item.source for item in items))
        with _repeatable(), ThreadPoolExecutor(_WRITERS) as threads:
            images = dict(zip(sources, threads.map(lambda source: tif.read(source.path), sources)))  # noqa: B905
            squares = {
                source: resize.pad_and_resize(image.pixels, self.image_size)
                for source, image in images.items()
            }
            found = self._translate(module, items, np.stack([squares[item.source] for item in items]))
            written = []
            for source, image in images.items():
                places = [index for index, item in enumerate(items) if item.source == source]
                raws: np.ndarray = module.at_own_size(image.pixels, found[places])  # pyright: ignore
                for index, raw in zip(places, raws, strict=True):
                    if items[index].is_needed:
                        written.append(threads.submit(self._write, items[index], raw, image.pixel_mm))
            for each in written:
                each.result()
        return [item for item in items if item.is_needed]

    def _translate(self, module: nn.Module, items: Sequence[SampleTask], squares: np.ndarray) -> np.ndarray:
        """(B, S, S) raw dente images -> (B, S, S) raw edente images."""
        device = next(module.parameters()).device
        sampling = self.sampling
        generators = [sample_generator(sampling.seed, item.source.name, item.sample) for item in items]
        found: Tensor = module.translate(  # pyright: ignore[reportCallIssue]
            torch.from_numpy(squares)[:, None].to(device),
            generators,
            sampler=sampling.sampler,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
        )
        return found.float().cpu().numpy()[:, 0]

    def _write(self, item: SampleTask, raw: np.ndarray, pixel_mm: float | None) -> None:
        path = self.output_dir / item.file
        path.parent.mkdir(parents=True, exist_ok=True)
        tif.write(path, raw, pixel_mm)


@contextmanager
def _repeatable() -> Iterator[None]:
    """On a GPU the same bits each time, and full precision: rounded to TF32, a sample would depend on the
    batch that it is made in."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _described(sampler: Sampler) -> str:
    if not isinstance(sampler, partial):
        return getattr(sampler, "__name__", str(sampler))
    options = ", ".join(f"{key}={value}" for key, value in sampler.keywords.items())
    return _described(sampler.func) + (f"({options})" if options else "")
