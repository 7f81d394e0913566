"""Components of exported MONAI bundles: their ``configs/inference.json`` names these classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

from pti.common.errors import UsageError
from pti.common.precision import full_precision
from pti.common.progress import track
from pti.common.randomness import sample_generator, sample_rank
from pti.data import resize, tif
from pti.data.input_images import InputImage
from pti.inference.devices import batched
from pti.inference.reconstructions import RAW
from pti.inference.sampling import SAMPLES
from pti.modules.protocols import Translator, is_autoencoder, reconstruct
from pti.runs.checkpoint import open_checkpoint
from pti.runs.manifest import Manifest

Inferer = Callable[..., Tensor]
"""``(inputs, network, *args) -> outputs``, as those of ``monai.inferers``."""


class BundleNetwork(nn.Module):
    """A trained model as one network from raw images to raw images (B, 1, S, S), background exactly 0.

    Args:
        ckpt: a checkpoint: ``models/model.pt`` of the bundle.
        seed: of the noise.

    Raises:
        UsageError: the model makes no images.
    """

    def __init__(self, ckpt: str, seed: int = 0) -> None:
        super().__init__()
        checkpoint = open_checkpoint(ckpt)
        self.module = checkpoint.load_module()
        require_images(self.module, ckpt)
        self.image_size = int(checkpoint.config["data"]["image_size"])
        self.sha256 = checkpoint.sha256
        self.seed = seed

    @property
    def is_random(self) -> bool:
        """True when several samples of one image differ."""
        return isinstance(self.module, Translator) and not self.module.deterministic

    @override
    @torch.no_grad()
    def forward(self, raw: Tensor, names: Sequence[str] | None = None, sample: int = 0) -> Tensor:
        """Translate dente images, or with a VAE reconstruct images.

        Args:
            raw: (B, 1, S, S).
            names: of the images; the same name, seed and sample give the same noise. None = 0, 1, ….
            sample: number of the sample.
        """
        module: nn.Module = self.module
        with full_precision(deterministic=True):
            if isinstance(module, Translator):
                names = [str(number) for number in range(len(raw))] if names is None else names
                generators = [sample_generator(self.seed, name, sample) for name in names]
                ranks = [sample_rank(self.seed, name, sample) for name in names]
                return module.translate(raw, generators, ranks=ranks).float()
            assert is_autoencoder(module)
            return reconstruct(module, raw).float()


class FolderEvaluator:
    """Apply a network to TIF files, and write the results at the inputs' own size and resolution.

    Writes ``samples/NAME_s00.tif``, … of a translation and ``reconstructions/NAME.tif`` of a VAE, in raw
    units. A run that was interrupted resumes.

    Args:
        dataset: the images, from `pti.data.input_images.find_images`.
        network: the network, on its device.
        inferer: calls the network.
        output_dir: created if missing.
        samples: of each image, from a random model; others give one.
        batch_size: images at a time.
    """

    def __init__(
        self,
        dataset: Sequence[InputImage],
        network: BundleNetwork,
        inferer: Inferer,
        output_dir: str,
        samples: int = 1,
        batch_size: int = 8,
    ) -> None:
        self.dataset = dataset
        self.network = network
        self.inferer = inferer
        self.output_dir = Path(output_dir)
        self.samples = samples if network.is_random else 1
        self.batch_size = batch_size

    def run(self) -> None:
        """Write the results of all images that have none yet.

        Raises:
            UsageError: ``output_dir`` holds results of other settings.
        """
        settings = {
            "command": "monai_bundle",
            "checkpoint": self.network.sha256,
            "seed": self.network.seed,
            "samples": self.samples,
        }
        with Manifest(self.output_dir, settings, (SAMPLES, RAW)) as manifest:
            waiting = [image for image in self.dataset if not manifest.is_done(image.name, image.path)]
            for batch in track(batched(waiting, self.batch_size), "Running the bundle"):
                for image, files in zip(batch, self._write(batch), strict=True):
                    manifest.add(image.name, image.path, files, {})
        count = len(self.dataset)
        print(f"{count} image{'s' * (count != 1)}: {self.output_dir}")

    def _write(self, batch: Sequence[InputImage]) -> list[list[Path]]:
        """Write the results of a batch and return the files of each image."""
        images = [tif.read(image.path) for image in batch]
        size, module = self.network.image_size, self.network.module
        squares = [torch.from_numpy(resize.pad_and_resize(image.pixels, size)) for image in images]
        raw = torch.stack(squares)[:, None].to(next(self.network.parameters()).device)
        files: list[list[Path]] = [[] for _ in batch]
        for sample in range(self.samples):
            names = [image.name for image in batch]
            results = self.inferer(raw, self.network, names, sample).cpu().numpy()
            for source, image, result, written in zip(batch, images, results, files, strict=True):
                if isinstance(module, Translator):
                    own = module.at_own_size(image.pixels, result)[0]
                    path = self.output_dir / SAMPLES / f"{source.name}_s{sample:02d}.tif"
                else:
                    height, width = image.pixels.shape
                    own = resize.restore_size(result[0], (height, width))
                    path = self.output_dir / RAW / f"{source.name}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tif.write(path, own, image.pixel_mm)
                written.append(path)
        return files


def require_images(module: nn.Module, source: str) -> None:
    """Refuse a model that makes no images.

    Raises:
        UsageError: it predicts something else.
    """
    if not (is_autoencoder(module) or isinstance(module, Translator)):
        raise UsageError(
            f"{source}: found a model of the class {type(module).__name__}, expected one that makes images: "
            "an autoencoder or a second stage."
        )
