"""The data module: pairs, splits, cache, batches and sharding of TIF images, and resuming within an epoch."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from pti.common.errors import DataError, UsageError
from pti.common.files import to_bytes
from pti.common.processes import usable_cpus
from pti.data.augment import Augmentation
from pti.data.batches import evaluation_batches, too_few_samples, training_batches
from pti.data.checks.findings import relative_name
from pti.data.dataset import SOURCES, TifDataset, samples_of
from pti.data.image_cache import FileImages, ImageCache
from pti.data.latent_cache import LatentDataset
from pti.data.layouts import Layout, abbreviate
from pti.data.loader import BatchLoader, Plan, Position, auto_workers
from pti.data.patient_split import fold_of
from pti.data.splits import Folder, evenly_spaced, open_folders

_LOG = logging.getLogger(__name__)


class TifDataModule(lightning.LightningDataModule):
    """Serve batches of raw images, (B, 1, image_size, image_size) float32, background exactly 0.

    A batch contains ``name`` and ``patient`` (lists of str), ``pixel_mm`` (B,), and ``condition`` and
    ``target``, or ``image`` if ``sources`` selects single images.

    Training serves every sample once per epoch, in an order and with an augmentation that depend only on
    (seed, epoch), for any number of workers; the global batches depend only on ``batch_size`` times devices
    (see `pti.data.batches`). A resumed epoch continues after the batches that Lightning itself counts as
    finished, so that loader and trainer can't disagree. Validation and test serve every sample once, without
    padding, distributed over the ranks.

    Args:
        root: Folder of the data set.
        layout: Function that lists the pairs of a root, see `pti.data.layouts`.
        fractions: Shares of patients for train, val and test.
        split_seed: Seed of the split; separate from ``seed``, so that all runs and both stages hold out the
            same patients.
        sources: ``target``, ``condition`` or ``both`` (single images), or ``pairs``.
        image_size: Edge of the square images in pixels.
        batch_size: Samples on each device.
        augmentation: Augmentation of the training images; None applies none.
        seed: Seed of order and augmentation.
        val_root, test_root: Separate data sets for these splits; None takes patients from ``root``.
        subset: Number of pairs to use of each split; None uses all.
        pixel_mm: Edge of a pixel in mm, for files that state none.
        cache: Keep decoded images in one memory-mapped file; False reads the files at every access.
        cache_dir: Folder of the caches.
        num_workers: Loader processes, or ``auto``.
        pin_memory: Whether batches are in page-locked memory, or ``auto``.
        allow_config_changes: Resume although seed, batch size, devices or data differ from the checkpoint.
        generate: Function that creates the data set, completely or not at all, if ``root`` does not exist.
        allow_links: Accept links that lead out of the data roots.
        folds: Folds of a cross-validation, which replace ``fractions``; None = none.
        fold: Number of the fold whose patients are the test split, from 0.
    """

    def __init__(
        self,
        root: str | Path,
        layout: Layout,
        fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        sources: str = "pairs",
        image_size: int = 256,
        batch_size: int = 8,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        val_root: str | Path | None = None,
        test_root: str | Path | None = None,
        subset: int | None = None,
        pixel_mm: float = 0.15,
        cache: bool = True,
        cache_dir: str | Path = "outputs/cache",
        num_workers: int | str = "auto",
        pin_memory: bool | str = "auto",
        allow_config_changes: bool = False,
        generate: Callable[[Path], Any] | None = None,
        allow_links: bool = False,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        super().__init__()
        if sources not in SOURCES:
            raise UsageError(f"data.sources={sources}: expected one of {', '.join(SOURCES)}.")
        for key, value in (("image_size", image_size), ("batch_size", batch_size), ("subset", subset)):
            if value is not None and value < 1:
                raise UsageError(f"data.{key}={value}: expected 1 or more.")
        if pixel_mm <= 0:
            raise UsageError(f"data.pixel_mm={pixel_mm}: expected more than 0.")
        self.root, self.layout, self.generate = Path(root), layout, generate
        roots = {"val": val_root, "test": test_root}
        self.extra_roots = {split: Path(extra) for split, extra in roots.items() if extra is not None}
        self.fractions, self.split_seed = fractions, split_seed
        self.fold = fold_of(folds, fold)
        self.sources, self.image_size, self.batch_size = sources, image_size, batch_size
        self.augmentation, self.seed, self.subset, self.pixel_mm = augmentation, seed, subset, pixel_mm
        self.cache, self.cache_dir = cache, Path(cache_dir)
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.allow_config_changes, self.allow_links = allow_config_changes, allow_links
        # A small validation split may leave a rank without samples, which is not an error.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.latents: LatentDataset | None = None  # set by a second stage, to train on latents instead
        self._splits: dict[str, TifDataset] = {}
        self._loaders: list[BatchLoader] = []
        self._warned = False

    def prepare_data(self) -> None:
        """Generate a missing data set and build the caches, on one process of each machine."""
        self.generate_missing()
        dtypes, backgrounds = Counter(), {}
        for _, images in self._open():
            dtypes.update(images.stored_dtypes)
            backgrounds |= images.backgrounds
        if self._warned:
            return
        self._warned = True
        if unclean := [
            f"{relative_name(file, self.root)}: {'noise' if np.isnan(value) else value}"
            for file, value in backgrounds.items()
            if value != 0
        ]:
            _LOG.warning(
                "%s: %d of %d images have a background that is not 0 and counts as tissue (%s). "
                "Set all pixels outside the tissue to 0; python -m pti.check describes each image.",
                *(self.root, len(unclean), len(backgrounds), abbreviate(unclean, 3)),
            )
        if converted := [f"{dtypes[name]} of {name}" for name in sorted(dtypes) if name != "float32"]:
            _LOG.warning("%s: images converted to float32: %s.", self.root, ", ".join(converted))

    def generate_missing(self) -> None:
        """Create the data set with ``generate`` if ``root`` does not exist."""
        if self.generate is not None and not self.root.exists():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.generate(self.root)

    def setup(self, stage: str | None = None) -> None:
        """List the pairs, assign them to splits and open the caches.

        Raises:
            UsageError: A setting is out of range.
            DataError: The data can't be used, or there is not one training batch for each device.
        """
        if not self._splits:
            for folder, images in self._open():
                for split in dict.fromkeys(folder.splits):
                    pairs = evenly_spaced(folder.numbered(split), self.subset)
                    samples = samples_of(pairs, self.sources)
                    self._splits[split] = TifDataset(images, samples, None, self.seed, self.pixel_mm)
        if stage in ("fit", None):
            self._require_one_batch()

    def train_dataloader(self) -> BatchLoader:
        """Return the loader of the training split, or of its latents."""
        dataset, place = self.latents or self.training_set(), self.rank_and_world_size()
        settings = (len(dataset), self.batch_size, self.seed)
        return self._loader(dataset, lambda epoch: training_batches(*settings, epoch, *place), self._position)

    def val_dataloader(self) -> BatchLoader | list:
        """Return the loader of the validation split; an empty list if there is none."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> BatchLoader | list:
        """Return the loader of the test split; an empty list if there is none."""
        return self._evaluation_loader("test")

    def training_set(self) -> TifDataset:
        """Return the training split as images, augmented as configured."""
        return replace(self._splits["train"], augmentation=self.augmentation)

    def validation_set(self) -> TifDataset | None:
        """Return the validation split as images; None if there is none."""
        return self._splits.get("val")

    def training_images(self) -> Iterator[np.ndarray]:
        """Iterate over the raw training images, (image_size, image_size), without augmentation."""
        split = self._splits["train"]
        return (split.images.image(sample.pair, role) for sample in split.samples for role in sample.roles)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the image size and any file's path, size or mtime."""
        fingerprints = dict.fromkeys(split.images.fingerprint for split in self._splits.values())
        return hashlib.sha256("/".join(fingerprints).encode()).hexdigest()[:16]

    def split_counts(self) -> dict[str, dict[str, int]]:
        """Return split -> {"patients": …, "images": …}; an image is one file."""
        counts = {}
        for name, split in self._ordered_splits():
            patients = {sample.patient for sample in split.samples}
            images = sum(len(sample.roles) for sample in split.samples)
            counts[name] = {"patients": len(patients), "images": images}
        return counts

    def split_rows(self) -> list[dict[str, str]]:
        """List the samples of all splits: ``split``, ``patient``, ``name`` and the file of each role."""
        return [
            {"split": split, "patient": sample.patient, "name": sample.name}
            | {role: str(dataset.images.file(sample.pair, role)) for role in sample.roles}
            for split, dataset in self._ordered_splits()
            for sample in dataset.samples
        ]

    def _ordered_splits(self) -> list[tuple[str, TifDataset]]:
        return [(name, self._splits[name]) for name in ("train", "val", "test") if name in self._splits]

    def rank_and_world_size(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that determines an epoch's batches; the trainer's state counts finished ones."""
        names = "\n".join(sample.name for sample in self._splits["train"].samples)
        return {
            "seed": self.seed,
            "data.batch_size": self.batch_size,
            "trainer.devices": self.rank_and_world_size()[1],
            "training samples": hashlib.sha256(to_bytes(names)).hexdigest()[:16],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the state of a checkpoint, so that a resumed epoch serves the remaining samples.

        Raises:
            UsageError: Seed, batch size, devices or samples differ, without ``allow_config_changes``.
        """
        if self.allow_config_changes or self.trainer is None or self.trainer.state.fn != "fit":
            return
        current = self.state_dict()
        if differing := [
            f"{key}: {saved} in the checkpoint, {current[key]} now"
            for key, saved in state_dict.items()
            if saved != current.get(key, saved)
        ]:
            fix = "Resume with the same values, or set data.allow_config_changes=true to continue with these."
            raise UsageError(f"The run can't be resumed exactly. {'; '.join(differing)}. {fix}")

    def teardown(self, stage: str | None = None) -> None:
        """End the loader processes."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End the loader processes; after an exception, Lightning does not call `teardown`."""
        self.teardown()

    def _open(self) -> Iterator[tuple[Folder, FileImages]]:
        """Yield each data root with its images, from a cache that is built if necessary."""
        split = (self.fractions, self.split_seed, self.extra_roots)
        for folder in open_folders(self.root, self.layout, *split, self.allow_links, self.fold):
            if self.cache:
                yield folder, ImageCache(folder.pairs, self.image_size, self.cache_dir, usable_cpus())
            else:
                yield folder, FileImages(folder.pairs, self.image_size)

    def _require_one_batch(self) -> None:
        world_size, samples = self.rank_and_world_size()[1], len(self._splits["train"].samples)
        if few := too_few_samples(samples, self.batch_size, world_size):
            raise DataError(f"{self.root}: {'. '.join(few)}")
        held_out = len(self._splits["val"].samples) if "val" in self._splits else 0
        if 0 < held_out < world_size:
            # Lightning skips validation on a rank without images, and the other ranks would hang.
            images = f"{held_out} validation image{'s' if held_out > 1 else ''}"
            fix = f"Set trainer.devices={held_out}, or add validation images."
            raise DataError(f"{self.root}: only {images} for {world_size} devices. {fix}")

    def _evaluation_loader(self, split: str) -> BatchLoader | list:
        if split not in self._splits:
            return []
        dataset = self._splits[split]
        batches = evaluation_batches(len(dataset), self.batch_size, *self.rank_and_world_size())
        return self._loader(dataset, lambda _: batches, lambda: (0, 0))

    def _loader(self, dataset: TifDataset | LatentDataset, plan: Plan, position: Position) -> BatchLoader:
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device.type
        workers = self.num_workers
        if workers == "auto":
            heavy = isinstance(dataset, TifDataset) and (not self.cache or dataset.augmentation is not None)
            workers = auto_workers(heavy, device != "cpu", self.trainer.num_devices if self.trainer else 1)
        pinned = device == "cuda" if self.pin_memory == "auto" else bool(self.pin_memory)
        loader = BatchLoader(dataset, plan, position, int(workers), pinned)
        self._loaders.append(loader)
        return loader

    def _position(self) -> tuple[int, int]:
        """(epoch, finished batches) by the trainer's count, which is right from the first batch on."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
