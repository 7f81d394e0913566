"""Suite ``data``: one epoch of training images, from our cache and from files that are decoded each time."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pti.benchmark.comparison import Comparison, Side, Work
from pti.benchmark.experiments import draw_pairs
from pti.benchmark.settings import SuiteSettings

IMAGES = 400
BATCH = 8


def data_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare an epoch of images on the device; all sides load in this process.

    The plain recipe normalises each image. Our loader serves raw images, which a training step normalises on
    the device; a further side includes this.
    """
    count, size, device = settings.number_of_images(IMAGES), settings.image_size, settings.device
    folder = draw_pairs(settings.scratch / f"images_{size}_{count}", size, count) / "edente"
    cached = partial(cached_epoch, folder, size, device, settings.scratch / "cache")
    ours = [
        Side("pti: image cache, raw", partial(cached, normalizes=False)),
        Side("pti: image cache, normalised", partial(cached, normalizes=True)),
    ]
    plain = Side("plain: decode, resize, normalise", partial(plain_epoch, folder, size, device))
    return [Comparison("data", f"an epoch of images, {size} × {size} pixels", count, ours, plain)]


def plain_images(folder: Path, size: int) -> Any:
    """Return MONAI's data set of a folder, which decodes, resizes and normalises at each access.

    Images are (1, size, size) float32, of mean 0 and standard deviation 1 in their tissue. MONAI reads a TIF
    with its axes swapped.
    """
    from monai.data.dataset import Dataset
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.array import NormalizeIntensity
    from monai.transforms.io.array import LoadImage
    from monai.transforms.spatial.array import Resize
    from monai.transforms.utility.array import EnsureChannelFirst

    # LoadImage tries every reader, and warns of a decoder for DICOM that it can't register.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    steps = [
        LoadImage("PILReader", image_only=True),
        EnsureChannelFirst(),
        Resize((size, size)),
        NormalizeIntensity(nonzero=True),
    ]
    return Dataset(sorted(folder.iterdir()), Compose(steps))


def plain_epoch(folder: Path, size: int, device: torch.device) -> Work:
    """Build an epoch of the plain recipe; a run returns the number of images."""
    from monai.data.dataloader import DataLoader

    loader = DataLoader(plain_images(folder, size), batch_size=BATCH, shuffle=True)
    return Work(lambda: sum(len(batch.to(device)) for batch in loader))


def cached_epoch(folder: Path, size: int, device: torch.device, cache_dir: Path, normalizes: bool) -> Work:
    """Build an epoch of our data module; a run returns the number of images.

    Args:
        folder: The images.
        size: Edge of the square images, pixels.
        device: Where the batches go.
        cache_dir: Folder of the image cache.
        normalizes: Normalise each batch on the device, as a training step does.
    """
    from pti.data.layouts import single_folder
    from pti.data.normalization import RangeNormalization
    from pti.modules.tif_data import TifDataModule

    settings: dict[str, Any] = {"fractions": (1, 0, 0), "sources": "target", "num_workers": 0}
    data = TifDataModule(
        folder, single_folder, image_size=size, batch_size=BATCH, cache_dir=cache_dir, **settings
    )
    is_built = cache_dir.exists()
    start = time.perf_counter()
    data.prepare_data()
    seconds = time.perf_counter() - start
    data.setup("fit")
    normalization = RangeNormalization()
    normalization.fit(data.training_images())
    normalization = normalization.to(device)

    def run() -> int:
        served = 0
        for batch in data.train_dataloader():
            raw = batch["image"].to(device)
            image = normalization.normalize(raw, normalization.statistics(raw)) if normalizes else raw
            served += len(image)
        return served

    return Work(run, note="" if is_built else f"the cache is built once, here in {seconds:.2g} s")
