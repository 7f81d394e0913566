"""Trust in a translation: how unlike the training an input or its answer is. See `pti.metrics.novelty`.

The reference comes from the training and validation split and is part of the checkpoint (key ``trust``), as
plain containers and tensors. Each aspect of an image gives one score:

========================  ====================================================================================
score                     what it is
========================  ====================================================================================
intensity, layout, edges  Mahalanobis distance of features of the raw input (`pti.metrics.appearance`)
latents                   distance of the latents, averaged over 4 × 4 parts, to the nearest of the training
reconstruction, detail    error of the autoencoder on the input: its mean, and its worst of 16 × 16 parts
change                    Mahalanobis distance of what an answer changes from what training pairs change
disagreement              standard deviation of the samples
========================  ====================================================================================

A model on pixels has no latents and no reconstruction, a single sample no disagreement.

Measured with a short training of `vae_demo` and `ldm_demo` (4 and 36 epochs) on the default phantom, 90
validation patients: 1.6 % of 500 unseen patients are flagged, and all of 840 foreign images, 60 of each kind:
five random styles of the phantom, another phantom, MRI, and images upside down, turned, cropped, inverted,
wrapped at 12 and at 10 bits, or without a tooth. Their novelty is at least 9.3, the limit 3.3. By
inputs alone, limits of five draws of the validation patients flag all images of unseen patients that were
blurred, brightened, enlarged, given another background or whose brightest 1 % wrapped, a third of the
mirrored ones, and none with four times the noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pti.metrics.appearance import (
    GRID,
    change_features,
    disagreement,
    edge_features,
    intensity_features,
    layout_features,
)
from pti.metrics.novelty import Distance, Mahalanobis, Neighbours, NoveltyLimit
from pti.modules.protocols import Autoencoder, autoencoder_of
from pti.runs.constructors import CheckpointError

IMAGE_FEATURES = {"intensity": intensity_features, "layout": layout_features, "edges": edge_features}
LATENTS, CHANGE = "latents", "change"

TRUST, REASON = "trust", "unlike_training"
"""Columns of the tables: share of patients that are expected to be at least as unusual (0 to 1), and in what
the image is unlike the training's, empty for one that isn't."""

_ASPECTS = {
    "intensity": "the intensities of the input",
    "layout": "the shape or place of the tissue in the input",
    "edges": "the edges or the noise of the input",
    "latents": "the structure of the input (latents)",
    "reconstruction": "the input as a whole (the autoencoder fails to reproduce it)",
    "detail": "a part of the input (the autoencoder fails to reproduce it)",
    "change": "what the answer changes",
    "disagreement": "the disagreement of the samples",
}
_BLOCKS = 16  # along each axis, for the autoencoder's worst error


@dataclass(frozen=True)
class TrustReference:
    """What inputs and answers look like for a trained model.

    Attributes:
        distances: Name of features -> distance from those of the training.
        limit: Scales of the scores, and the limit of the novelty.
    """

    distances: Mapping[str, Distance]
    limit: NoveltyLimit

    def judge(self, scores: Mapping[str, float], has_bone: bool = True) -> dict[str, Any]:
        """Return `TRUST` and `REASON` of an image.

        Args:
            scores: From `input_scores` and `answer_scores`.
            has_bone: Whether the answer contains bone.
        """
        if not has_bone:
            return {TRUST: 0.0, REASON: "the answer contains no bone"}
        verdict = self.limit.judge(scores)
        found = f"{_ASPECTS[verdict.score]}: {verdict.novelty:.1f} standard deviations from the validation's"
        reason = f"{found}, limit {self.limit.limit:.1f}" if verdict.is_unlike else ""
        return {TRUST: round(verdict.trust, 4), REASON: reason}

    def as_plain(self) -> dict[str, Any]:
        """Return plain containers and tensors, for a checkpoint."""
        distances = {
            name: {key: torch.from_numpy(np.array(value)) for key, value in vars(own).items()}
            for name, own in self.distances.items()
        }
        limit = {**vars(self.limit), "scales": {key: list(own) for key, own in self.limit.scales.items()}}
        return {"distances": distances, "limit": limit}

    @classmethod
    def of_checkpoint(cls, content: Mapping[str, Any], source: str) -> "TrustReference | None":
        """Read the reference of a checkpoint; None if it has none.

        Args:
            content: The checkpoint's content.
            source: Its path, for messages.

        Raises:
            CheckpointError: The reference is damaged.
        """
        plain = content.get("trust")
        if plain is None:
            return None
        try:
            distances = {
                name: (Neighbours if name == LATENTS else Mahalanobis)(
                    **{key: value.double().numpy() for key, value in own.items()}
                )
                for name, own in plain["distances"].items()
            }
            scales = {
                name: (float(mean), float(std)) for name, (mean, std) in plain["limit"]["scales"].items()
            }
            if not scales.keys() <= _ASPECTS.keys():
                raise ValueError
            return cls(distances, NoveltyLimit(**{**plain["limit"], "scales": scales}))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CheckpointError(f"{source}: its reference for trust is damaged (key trust).") from None


def fit_distances(features: Mapping[str, np.ndarray]) -> dict[str, Distance]:
    """Fit the distance of each kind of features (N, F) to those of the training."""
    return {name: (Neighbours if name == LATENTS else Mahalanobis).fit(own) for name, own in features.items()}


def input_features(
    module: nn.Module, squares: np.ndarray
) -> tuple[list[dict[str, np.ndarray]], Tensor | None]:
    """Compute the features of inputs.

    Args:
        module: The trained second stage.
        squares: (B, S, S) float32 raw images of the size that it works on.

    Returns:
        For each image name -> features; and the latents (B, C, h, w), None without an autoencoder.
    """
    features = [{name: of(square) for name, of in IMAGE_FEATURES.items()} for square in squares]
    autoencoder = autoencoder_of(module)
    if autoencoder is None:
        return features, None
    latents = autoencoder.encode(_raw(autoencoder, squares)).mean
    for own, pooled in zip(features, _pooled(latents, GRID).flatten(1), strict=True):
        own[LATENTS] = pooled.double().cpu().numpy()
    return features, latents


def input_scores(
    distances: Mapping[str, Distance], module: nn.Module, squares: np.ndarray
) -> list[dict[str, float]]:
    """Compute the scores of inputs (B, S, S); arguments as `input_features`."""
    features, latents = input_features(module, squares)
    scores = [{name: distances[name].distance(value) for name, value in own.items()} for own in features]
    autoencoder = autoencoder_of(module)
    if autoencoder is not None and latents is not None:
        errors = _reconstruction_errors(autoencoder, squares, latents).tolist()
        for own, (mean, worst) in zip(scores, errors, strict=True):
            own |= {"reconstruction": mean, "detail": worst}
    return scores


def _reconstruction_errors(autoencoder: Autoencoder, squares: np.ndarray, latents: Tensor) -> Tensor:
    """Return the mean absolute error of the normalised images, and that of the worst part, (B, 2)."""
    raw, normalization = _raw(autoencoder, squares), autoencoder.normalization
    statistics = normalization.statistics(raw)
    images = (raw, autoencoder.decode(latents, statistics))
    one, other = (normalization.normalize(image, statistics) for image in images)
    error = (one - other).abs()
    return torch.stack([error.mean((1, 2, 3)), _pooled(error, _BLOCKS).amax((1, 2, 3))], 1).double().cpu()


def answer_scores(
    distances: Mapping[str, Distance], condition: np.ndarray, answers: Sequence[np.ndarray]
) -> dict[str, float]:
    """Compute the scores of the answers to one input.

    Args:
        distances: From the training.
        condition: (S, S) raw.
        answers: (S, S) raw, of the same size; at least one.
    """
    changes = [distances[CHANGE].distance(change_features(condition, answer)) for answer in answers]
    scores = {CHANGE: float(np.median(changes))}
    return scores | ({"disagreement": disagreement(condition, np.stack(answers))} if len(answers) > 1 else {})


def _raw(autoencoder: Autoencoder, squares: np.ndarray) -> Tensor:
    """Return (B, 1, S, S) on the device of the autoencoder."""
    return torch.from_numpy(squares)[:, None].to(next(autoencoder.normalization.buffers()).device)


def _pooled(images: Tensor, parts: int) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(images.float(), min(parts, images.shape[-1]))
