"""Predictions of checkpoints on a split of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pti.common.errors import DataError, UsageError
from pti.data.input_images import InputImage
from pti.data.layouts import Pair
from pti.evaluate.evaluation import target_images
from pti.evaluate.intensities import survey_targets
from pti.evaluate.predictions import match
from pti.evaluate.scores import Case
from pti.inference.features import FeatureExtractor
from pti.inference.held_out import pairs_of_split
from pti.inference.inputs import Inputs, find_inputs
from pti.inference.loaded import LoadedPredictor, LoadedTranslator, open_predictor, predicts_sizes
from pti.inference.reconstructions import fixed_data_range
from pti.inference.sampling import Sampling
from pti.inference.size_prediction import predict_sizes
from pti.inference.translator import translate_images
from pti.metrics.calibration import QUANTILES
from pti.modules.protocols import autoencoder_of
from pti.runs.exported import UNKNOWN_FOLDER
from pti.runs.locate import checkpoint_names

TRANSLATIONS = "translations"


@dataclass(frozen=True)
class CheckpointPredictions:
    """Translates a split of a data set with checkpoints.

    Attributes:
        predictors: Method -> checkpoint; the report is about the first.
        data: The data set, as ``data`` of a checkpoint's configuration.
        split: The split to evaluate.
        sampling: Settings of the samples.
        output_dir: Folder of the command.
        devices: Devices to translate on.
        batch_size: Samples at a time on each device.
        num_samples: Translate only the first slices by name; None = all.
    """

    predictors: dict[str, LoadedPredictor]
    data: dict[str, Any]
    split: str
    sampling: Sampling
    output_dir: Path
    devices: Sequence[torch.device]
    batch_size: int = 32
    num_samples: int | None = None

    @property
    def main(self) -> str:
        """The first method."""
        return next(iter(self.predictors))

    @property
    def first(self) -> LoadedPredictor:
        """The checkpoint of the first method."""
        return self.predictors[self.main]

    @property
    def samples(self) -> int:
        """Samples, or quantiles, of each slice by the first method."""
        if predicts_sizes(self.first):
            return QUANTILES
        return self.sampling.resolved(*self.first.modules).samples

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return Path(self.data["root"]).absolute()

    def cases(self, split: str, methods: Sequence[str]) -> tuple[list[Case], list[str]]:
        """Apply some of the methods to a split; return its slices, and notes for the reader."""
        inputs = find_inputs(self.data, split, str(self.first.path), with_targets=True)
        images = [image for image in inputs.images if image.name in inputs.targets][: self.num_samples]
        if not images:
            raise DataError(f"{inputs.origin}: found no dente image with an edente image to compare with.")
        targets = [InputImage(image.name, inputs.targets[image.name], image.patient) for image in images]
        survey_targets(targets)
        inputs, folders, warnings, sizes = replace(inputs, images=images), {}, [], {}
        for method in methods:
            predictor = self.predictors[method]
            if predicts_sizes(predictor):
                print(
                    f"{method}, {split} split: sizes of {len(images)} slice{'s' if len(images) > 1 else ''}"
                )
                sizes[method] = predict_sizes(predictor, images, self.batch_size, self.devices[0]).quantiles
            else:
                folders[method] = self.output_dir / TRANSLATIONS / method.replace("/", "_") / split
                warnings += self._translate(method, predictor, inputs, folders[method])
        matched = match(targets, folders, {image.name: image.path for image in images}, inputs.origin)
        cases = _with_sizes(matched.cases, images, sizes)
        return cases, [*matched.notes, *dict.fromkeys(text.rstrip(".") for text in warnings)]

    def _translate(
        self, method: str, translator: LoadedTranslator, inputs: Inputs, folder: Path
    ) -> Sequence[str]:
        """Translate the images; return warnings about them."""
        sampling = self.sampling
        if translator.module.deterministic:
            sampling = Sampling(
                seed=sampling.seed, mirror=sampling.mirror, precision=sampling.precision
            ).resolved(*translator.modules)
        samples = f"{sampling.samples} sample{'s' if sampling.samples > 1 else ''}"
        slices = f"{len(inputs.images)} slice{'s' if len(inputs.images) > 1 else ''}"
        print(f"{method}, {folder.name} split: {slices}, {samples} each")
        translations = translate_images(
            translator, inputs, folder, sampling, batch_size=self.batch_size, devices=self.devices
        )
        return translations.warnings

    def resolved_sampling(self) -> dict[str, Any]:
        """Return the sampling of the first checkpoint, with its own values for unset ones."""
        if predicts_sizes(self.first) or self.first.module.deterministic:
            return {}
        return self.sampling.resolved(*self.first.modules).as_dict()

    def data_range(self, cases: Sequence[Case]) -> float:
        """Return the data range of the first checkpoint's training set, raw units."""
        tissue = survey_targets(target_images(cases)).tissue_range
        return fixed_data_range(self.first.module.normalization, tissue)[0]

    def training_pairs(self, method: str) -> list[Pair]:
        """Return the training pairs of a checkpoint; empty if they aren't on this machine.

        An exported model doesn't know where they are: they are taken from the data set of the evaluation.
        """
        return _training_pairs(self.predictors[method], self.data)

    def patients_seen_in_training(self, method: str, cases: Sequence[Case]) -> int:
        """Count the patients of the slices that a method was trained on, by their files."""
        predictor = self.predictors[method]
        pairs = [
            pair for model in (predictor, *predictor.others) for pair in _training_pairs(model, self.data)
        ]
        files = {file.resolve() for pair in pairs for file in pair.files.values()}
        return len({case.patient for case in cases if case.target.resolve() in files})

    def validation_cases(self) -> list[Case]:
        """Apply the first method to the validation split; empty if there are no validation patients."""
        try:
            return self.cases("val", [self.main])[0]
        except DataError:
            return []

    def feature_extractor(self) -> FeatureExtractor | None:
        """Return a feature extractor with the first checkpoint's autoencoder; None without images of it."""
        module: Any = self.first.module
        autoencoder = autoencoder_of(module)
        if autoencoder is None or predicts_sizes(self.first):
            return None
        size = self.first.data["image_size"]
        return FeatureExtractor(autoencoder, size, self.first.pixel_mm, self.batch_size, self.devices[0])


def _training_pairs(predictor: LoadedPredictor, evaluated: Mapping[str, Any]) -> list[Pair]:
    data = evaluated if predictor.data["root"] == UNKNOWN_FOLDER else predictor.data
    try:
        return pairs_of_split(data, "train", str(predictor.path))
    except (DataError, UsageError):
        return []


def _with_sizes(
    cases: Sequence[Case], images: Sequence[InputImage], sizes: Mapping[str, Mapping[str, np.ndarray]]
) -> list[Case]:
    """Add predicted sizes, method -> measure -> (N, K) of the images, to the slices."""
    index = {image.name: number for number, image in enumerate(images)}
    return [
        replace(
            case,
            sizes={
                method: {measure: values[index[case.name]] for measure, values in columns.items()}
                for method, columns in sizes.items()
            },
        )
        for case in cases
    ]


def open_checkpoints(
    paths: Sequence[Path], data_overrides: Mapping[str, Any]
) -> tuple[dict[str, LoadedPredictor], dict[str, Any]]:
    """Open checkpoints.

    Args:
        paths: The checkpoint files.
        data_overrides: Values for ``data``; None keeps the value of the first checkpoint's training.

    Returns:
        Method -> checkpoint; and ``data`` of the first checkpoint's configuration with the overrides.

    Raises:
        CheckpointError: A file can't be used.
        UsageError: A checkpoint isn't one of a second stage.
    """
    predictors = dict(zip(checkpoint_names(paths), map(open_predictor, paths), strict=True))
    trained = next(iter(predictors.values())).data
    return predictors, trained | {key: value for key, value in data_overrides.items() if value is not None}
