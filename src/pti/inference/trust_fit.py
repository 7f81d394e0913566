"""Fit the reference for trust: features of the training split, scores of the validation split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pti.common.errors import DataError
from pti.common.progress import track
from pti.common.randomness import sample_generator
from pti.data.layouts import Pair
from pti.data.splits import evenly_spaced
from pti.inference.devices import batched, device_of
from pti.inference.held_out import pairs_of_split, read_squares
from pti.inference.loaded import LoadedTranslator
from pti.inference.trust import (
    CHANGE,
    TrustReference,
    answer_scores,
    fit_distances,
    input_features,
    input_scores,
)
from pti.metrics.appearance import change_features
from pti.metrics.novelty import MIN_PATIENTS, Distance, NoveltyLimit

MAX_TRAINING_IMAGES = 1000
SAMPLES = 2
"""Samples of each validation image, of which the variance is an unbiased estimate for any number."""

Tick = Callable[[], Any]
"""Called between two batches; may raise to stop."""


@dataclass(frozen=True)
class TrustFit:
    """Settings of the fit.

    Attributes:
        images: Largest number of validation images to translate, spread over the patients.
        batch_size: Images at a time.
        tick: Called between two batches; may raise to stop.
    """

    images: int = 200
    batch_size: int = 16
    tick: Tick = lambda: None

    def __call__(
        self, translator: LoadedTranslator, distances: Mapping[str, Distance] | None = None
    ) -> TrustReference:
        """Fit the reference of a checkpoint on the device of its module.

        Args:
            translator: The checkpoint.
            distances: Those of another checkpoint of the same training, which has the same frozen
                autoencoder; None = measure the training split.

        Raises:
            DataError: The data set of the training can't be used any more, or has too few patients.
        """
        data, source = translator.data, str(translator.path)
        training = evenly_spaced(pairs_of_split(data, "train", source), MAX_TRAINING_IMAGES)
        validation = sorted(pairs_of_split(data, "val", source), key=lambda pair: (pair.patient, pair.name))
        validation = evenly_spaced(validation, self.images)
        if (patients := len({pair.patient for pair in validation})) < MIN_PATIENTS or len(training) < 2:
            raise DataError(
                f"found {patients} validation patient{'s' * (patients != 1)}, expected {MIN_PATIENTS} or more"
            )
        with torch.inference_mode():
            distances = distances or self._distances(translator, training)
            rows = self._scores(translator, distances, validation)
        scores = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return TrustReference(distances, NoveltyLimit.fit(scores, [pair.patient for pair in validation]))

    def _distances(self, translator: LoadedTranslator, pairs: Sequence[Pair]) -> dict[str, Distance]:
        module: Any = translator.module
        features: list[dict[str, Any]] = []
        for batch in track(batched(pairs, self.batch_size), "Measuring the training images"):
            self.tick()
            size = translator.data["image_size"]
            conditions, targets = (read_squares(batch, role, size) for role in ("condition", "target"))
            own, _ = input_features(module, conditions)
            changes = map(change_features, conditions, targets)
            features += [row | {CHANGE: change} for row, change in zip(own, changes, strict=True)]
        return fit_distances({name: np.stack([row[name] for row in features]) for name in features[0]})

    def _scores(
        self, translator: LoadedTranslator, distances: Mapping[str, Distance], pairs: Sequence[Pair]
    ) -> list[dict[str, float]]:
        module: Any = translator.module
        rows: list[dict[str, float]] = []
        sampling = module.resolve_sampling(None, None, None)
        batches = batched(pairs, self.batch_size)
        for batch in track(batches, f"{translator.path.name}: translating validation images"):
            squares = read_squares(batch, "condition", translator.data["image_size"])
            scores = input_scores(distances, module, squares)
            raw = torch.from_numpy(squares)[:, None].to(device_of(module))
            answers = []
            for sample in range(1 if module.deterministic else SAMPLES):
                self.tick()
                generators = [sample_generator(0, pair.name, sample) for pair in batch]
                answers.append(module.translate(raw, generators, **sampling).float().cpu().numpy()[:, 0])
            rows += [
                own | answer_scores(distances, square, [sample[index] for sample in answers])
                for index, (own, square) in enumerate(zip(scores, squares, strict=True))
            ]
        return rows
