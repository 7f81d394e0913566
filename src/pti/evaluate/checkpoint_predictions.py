"""Checkpoints of the second stage at work on one side of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from pti.common.errors import DataError
from pti.data.input_images import InputImage, survey
from pti.data.layouts import Pair
from pti.evaluate.predictions import match
from pti.evaluate.scores import Case, Scores, evaluate_cases
from pti.inference.devices import choose_devices
from pti.inference.features import FeatureExtractor
from pti.inference.held_out import pairs_of_split
from pti.inference.inputs import Inputs, find_inputs
from pti.inference.reconstructions import fixed_data_range
from pti.inference.sampling import Sampling
from pti.inference.translator import LoadedTranslator, open_translator, translate_images
from pti.runs.locate import checkpoint_names

if TYPE_CHECKING:
    import torch

TRANSLATIONS = "translations"


@dataclass(frozen=True)
class CheckpointPredictions:
    """Checkpoints at work on one side of a data set.

    Attributes:
        translators: method -> its checkpoint; the first is the one that the report is about.
        data: where the images come from, as ``data`` of a checkpoint's configuration.
        split: the side.
        sampling: of the samples.
        output_dir: of the command.
        batch_size: images × samples at a time.
        devices: to translate on.
        num_samples: the most slices; None = all.
    """

    translators: dict[str, LoadedTranslator]
    data: dict[str, Any]
    split: str
    sampling: Sampling
    output_dir: Path
    batch_size: int
    devices: "Sequence[torch.device]"
    num_samples: int | None = None

    @property
    def main(self) -> str:
        """The first method."""
        return next(iter(self.translators))

    @property
    def first(self) -> LoadedTranslator:
        """Its checkpoint."""
        return self.translators[self.main]

    def cases(self, split: str, methods: Sequence[str]) -> tuple[list[Case], list[str]]:
        """The slices of a side, translated by some of the methods; and what the reader must know of them."""
        source = str(self.first.path)
        inputs = find_inputs(self.data, split, source, with_targets=True)
        images = [image for image in inputs.images if image.name in inputs.targets][: self.num_samples]
        if not images:
            raise DataError(
                f"{inputs.origin}: no dente image there has its edente image. Nothing to compare with."
            )
        inputs = replace(inputs, images=images)
        folders = {}
        for method in methods:
            folders[method] = self.output_dir / TRANSLATIONS / method.replace("/", "_") / split
            self._translate(method, inputs, folders[method])
        targets = [InputImage(image.name, inputs.targets[image.name], image.patient) for image in images]
        matched = match(targets, folders, {image.name: image.path for image in images}, inputs.origin)
        return matched.cases, matched.notes

    def _translate(self, method: str, inputs: Inputs, folder: Path) -> None:
        translator = self.translators[method]
        count = 1 if translator.module.deterministic else self.sampling.samples
        print(f"{method}: {len(inputs.images)} slices, {count} sample{'s' if count > 1 else ''} each")
        sampling = self.sampling
        if translator.module.deterministic:
            sampling = Sampling(seed=sampling.seed)
        translate_images(
            translator, inputs, folder, sampling, batch_size=self.batch_size, devices=self.devices
        )

    def resolved_sampling(self) -> dict[str, Any]:
        """The first checkpoint's, with its own settings where the command line has none."""
        module = self.first.module
        return {} if module.deterministic else self.sampling.resolved(module).as_dict()

    def data_range(self, cases: Sequence[Case]) -> float:
        """Of the checkpoint's training set, raw units."""
        tissue = survey([InputImage(case.name, case.target, case.patient) for case in cases]).tissue
        return fixed_data_range(self.first.module.normalization, tissue)[0]

    def training_pairs(self) -> list[Pair]:
        """What the first checkpoint was trained on; empty where that isn't on this machine."""
        try:
            return pairs_of_split(self.first.data, "train", str(self.first.path))
        except DataError:
            return []

    def validation_scores(self, data_range: float) -> Scores | None:
        """The first method on validation patients; None where there are none."""
        try:
            cases, _ = self.cases("val", [self.main])
        except DataError:
            return None
        return evaluate_cases(cases, data_range, self.first.pixel_mm).methods[self.main]

    def probe(self) -> FeatureExtractor | None:
        """The first checkpoint's autoencoder; None where it has none."""
        autoencoder = getattr(self.first.module, "first_stage", None)
        if autoencoder is None:
            return None
        size = self.first.data["image_size"]
        return FeatureExtractor(autoencoder, size, self.first.pixel_mm, self.batch_size, self.devices[0])


def open_study(cfg: DictConfig, paths: Sequence[Path], output_dir: Path) -> CheckpointPredictions:
    """Open the checkpoints.

    Raises:
        CheckpointError: one can't be used.
        UsageError: one is of another kind.
    """
    translators = dict(zip(checkpoint_names(paths), map(open_translator, paths), strict=True))
    trained = next(iter(translators.values())).data
    data = {**trained, **{key: value for key, value in cfg.data.items() if value is not None}}
    sampling = Sampling(cfg.samples, instantiate(cfg.sampler), cfg.steps, cfg.guidance_scale, cfg.seed)
    devices = choose_devices(cfg.accelerator, cfg.devices)
    return CheckpointPredictions(
        translators, data, cfg.split, sampling, output_dir, cfg.batch_size, devices, cfg.num_samples
    )


def seen_in_training(cases: Sequence[Case], translator: LoadedTranslator) -> int:
    """How many of the slices' patients stand on the training side of a checkpoint, by their files."""
    try:
        pairs = pairs_of_split(translator.data, "train", str(translator.path))
    except DataError:
        return 0
    files = {file.resolve() for pair in pairs for file in (pair.condition, pair.target) if file is not None}
    return len({case.patient for case in cases if case.target.resolve() in files})
