"""A folder of TIF images for Lightning: pairs, sides, cache, batches, sharding, and resuming in mid-epoch."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from pti.common.errors import DataError, UsageError
from pti.common.processes import usable_cpus
from pti.data.augment import Augmentation
from pti.data.batches import evaluation_batches, training_batches
from pti.data.dataset import SOURCES, TifDataset, samples_of
from pti.data.image_cache import FileImages, open_cache
from pti.data.latent_cache import LatentDataset
from pti.data.layouts import Layout
from pti.data.loader import BatchLoader, Plan, Position, auto_workers
from pti.data.splits import Folder, Split, evenly_spaced, open_folders

_LOG = logging.getLogger(__name__)


class TifDataModule(lightning.LightningDataModule):
    """Serves batches of raw images, float32 (B, 1, image_size, image_size), background exactly 0.

    A batch holds ``name`` and ``patient`` (lists of str), ``pixel_mm`` (B,), and ``condition`` and
    ``target``, or ``image`` where ``sources`` picks images alone.

    Training: every sample once an epoch, in an order and with an augmentation that depend on (seed, epoch)
    alone, whatever the number of workers; the global batches depend on ``batch_size`` times devices only (see
    `pti.data.batches`). Where an epoch goes on after a resume is Lightning's own count of finished batches, so
    that loader and trainer can't disagree. Validation and test: every sample once, none padded, shared by the
    ranks.

    Args:
        root: folder of the data set.
        layout: root -> pairs, see `pti.data.layouts`.
        fractions: shares of patients for train, val and test.
        split_seed: of the split; apart from ``seed``, so that runs and stages hold out the same patients.
        sources: ``target``, ``condition`` or ``both`` (single images) or ``pairs``.
        image_size: side of the images in pixels.
        batch_size: samples on each device.
        augmentation: for training images; None for none.
        seed: of order and augmentation.
        val_root, test_root: data sets of their own for these sides; None takes a share of ``root``.
        subset: use this many pairs of each side; None uses all.
        pixel_mm: edge of a pixel in mm in files without a resolution tag.
        cache: keep decoded images in one memory-mapped file in ``cache_dir``; False reads files each time.
        cache_dir: folder of the caches.
        num_workers: loader processes, or ``auto``.
        pin_memory: page-locked batches, or ``auto``.
        allow_config_changes: resume although seed, batch size, devices or data differ from the checkpoint's.
        generate: makes the data set when ``root`` is not there yet, whole or not at all.
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
    ) -> None:
        super().__init__()
        if sources not in SOURCES:
            raise UsageError(f"data.sources={sources}: expected one of {', '.join(SOURCES)}.")
        if batch_size < 1 or image_size < 1 or (subset is not None and subset < 1):
            raise UsageError("data.batch_size, data.image_size and data.subset: expected 1 or more.")
        self.root, self.layout, self.generate = Path(root), layout, generate
        own_roots = {"val": val_root, "test": test_root}
        self.extra_roots = {side: Path(extra) for side, extra in own_roots.items() if extra is not None}
        self.fractions, self.split_seed = fractions, split_seed
        self.sources, self.image_size, self.batch_size = sources, image_size, batch_size
        self.augmentation, self.seed, self.subset, self.pixel_mm = augmentation, seed, subset, pixel_mm
        self.cache, self.cache_dir = cache, Path(cache_dir)
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.allow_config_changes = allow_config_changes
        # A rank whose share of a small validation side is empty is no mistake.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.latents: LatentDataset | None = None  # set by a second stage: serves its training side instead
        self._sides: dict[str, Split] = {}
        self._fingerprints: list[str] = []
        self._loaders: list[BatchLoader] = []

    def prepare_data(self) -> None:
        """Make the data set if it has to be made, and build the cache; on one process of each machine."""
        self.generate_missing()
        images = [self._open(folder) for folder in self._folders()]
        types = sum((Counter(each.stored_dtypes) for each in images), Counter())
        converted = [f"{count} of {name}" for name, count in sorted(types.items()) if name != "float32"]
        if converted:
            _LOG.warning("%s: images converted to float32: %s.", self.root, ", ".join(converted))

    def generate_missing(self) -> None:
        """Make the data set where ``root`` is not there yet and ``generate`` says how."""
        if self.generate is not None and not self.root.exists():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.generate(self.root)

    def setup(self, stage: str | None = None) -> None:
        """List the pairs, split them, open the cache.

        Raises:
            UsageError: a setting is out of range.
            DataError: the data can't be used, or the training samples make no batch on each device.
        """
        if not self._sides:
            for folder in self._folders():
                images = self._open(folder)
                self._fingerprints.append(images.fingerprint)
                for side in dict.fromkeys(folder.sides):
                    pairs = evenly_spaced(folder.numbered(side), self.subset)
                    self._sides[side] = Split(images, samples_of(pairs, self.sources))
        if stage in ("fit", None):
            self._require_one_batch()

    def train_dataloader(self) -> BatchLoader:
        """Every sample once an epoch; see the class."""
        rank, world = self._place()
        dataset = self.latents or self.training_set()
        plan = partial(
            training_batches, len(dataset), self.batch_size, self.seed, rank=rank, world_size=world
        )
        return self._loader(dataset, plan, self._position)

    def val_dataloader(self) -> BatchLoader | list:
        """Every validation sample once, shared by the ranks; no loader where that side is empty."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> BatchLoader | list:
        """Every test sample once, shared by the ranks; nothing where that side is empty."""
        return self._evaluation_loader("test")

    def training_set(self) -> TifDataset:
        """The training side as images, augmented if that is configured."""
        return self._dataset("train", self.augmentation)

    def training_images(self) -> Iterator[np.ndarray]:
        """The training side's raw images (image_size, image_size), not augmented."""
        return self._sides["train"].raw_images()

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any file (path, size, time of change) and the image size."""
        return hashlib.sha256("/".join(self._fingerprints).encode()).hexdigest()[:16]

    def split_counts(self) -> dict[str, dict[str, int]]:
        """Split -> {"patients": …, "images": …}; an image is one file."""
        return {name: side.counts() for name, side in self._sides.items()}

    def state_dict(self) -> dict[str, Any]:
        """What an epoch's batches depend on. How many of them are done is in the trainer's own state."""
        names = "\n".join(sample.name for sample in self._sides["train"].samples)
        return {
            "seed": self.seed,
            "data.batch_size": self.batch_size,
            "trainer.devices": self._place()[1],
            "training samples": hashlib.sha256(names.encode()).hexdigest()[:16],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with a checkpoint's, so that a resumed epoch goes on with the samples that are left.

        Raises:
            UsageError: seed, batch size, devices or samples differ and ``allow_config_changes`` is not set.
        """
        resuming = self.trainer is not None and self.trainer.state.fn == "fit"
        if not resuming or self.allow_config_changes:
            return
        here = self.state_dict()
        differing = [
            f"{key}: {saved} in the checkpoint, {here[key]} now"
            for key, saved in state_dict.items()
            if saved != here.get(key, saved)
        ]
        if differing:
            fix = "Resume with the same values, or set data.allow_config_changes=true to go on with these."
            raise UsageError(f"The run can't be resumed exactly. {'; '.join(differing)}. {fix}")

    def teardown(self, stage: str | None = None) -> None:
        """End the loader processes."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End the loader processes; Lightning calls no `teardown` then."""
        self.teardown()

    def _folders(self) -> list[Folder]:
        return open_folders(self.root, self.layout, self.fractions, self.split_seed, self.extra_roots)

    def _open(self, folder: Folder) -> FileImages:
        if not self.cache:
            return FileImages(folder.pairs, self.image_size)
        return open_cache(folder.pairs, self.image_size, self.cache_dir, workers=usable_cpus())

    def _require_one_batch(self) -> None:
        world, samples = self._place()[1], len(self._sides["train"].samples)
        if samples < self.batch_size * world:
            found = (
                f"{samples} training samples make no batch of {self.batch_size} on each of {world} devices"
            )
            fix = f"Set data.batch_size={samples // world}" if samples >= world else f"Use {samples} devices"
            raise DataError(f"{self.root}: {found}. {fix}, or add images.")

    def _dataset(self, side: str, augmentation: Augmentation | None = None) -> TifDataset:
        found = self._sides[side]
        return TifDataset(found.images, found.samples, augmentation, self.seed, self.pixel_mm)

    def _evaluation_loader(self, side: str) -> BatchLoader | list:
        if side not in self._sides:
            return []
        dataset = self._dataset(side)
        batches = evaluation_batches(len(dataset), self.batch_size, *self._place())
        return self._loader(dataset, lambda _: batches)

    def _loader(
        self, dataset: TifDataset | LatentDataset, plan: Plan, position: Position = lambda: (0, 0)
    ) -> BatchLoader:
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device.type
        workers, pinned = self.num_workers, self.pin_memory
        if workers == "auto":
            heavy = isinstance(dataset, TifDataset) and (not self.cache or dataset.augmentation is not None)
            workers = auto_workers(heavy, device != "cpu", self.trainer.num_devices if self.trainer else 1)
        if pinned == "auto":
            pinned = device == "cuda"
        loader = BatchLoader(dataset, plan, position, num_workers=int(workers), pin_memory=bool(pinned))
        self._loaders.append(loader)
        return loader

    def _position(self) -> tuple[int, int]:
        """(epoch, finished batches) by the trainer's count, which is right from the first batch on."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _place(self) -> tuple[int, int]:
        """(rank, number of processes)."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
