"""Attributes of a study's latents: how well each follows its measure, and what a walk along it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from pti.data import resize, tif
from pti.data.splits import evenly_spaced
from pti.inference.bone_sizes import bone_sizes
from pti.latent_study.latents import Latents
from pti.latent_study.study import LatentStudy
from pti.metrics.bone_agreement import LENGTHS, find_bone
from pti.modules.attributes import LatentAttributes, attributes_of

STEPS = np.linspace(-2, 2, 9)
"""Steps of a walk, standard deviations of the measure."""

_MEASURED = (*(name for name in LENGTHS if "_at_" not in name), "area")
_WALKS = 12  # images of each group


@dataclass(frozen=True)
class AttributeFit:
    """Agreement of an attribute with its measure, on images that the training hasn't seen.

    Attributes:
        group: Group of the images.
        measure: Name of the measure.
        channel: Latent channel whose mean is the attribute, from 0.
        images: Number of images with this measure.
        rank_correlation: Spearman correlation of attribute and measure (the paper's SCC), −1 to 1.
        interpretability: R² of the linear regression of the measure on the attribute alone, 0 to 1 (Adel et
            al. 2018, as in Pati & Lerch 2020).
        separation: R² minus the highest R² of another channel's mean, −1 to 1 (the SAP score of Kumar et al.
            2018 for this measure).
    """

    group: str
    measure: str
    channel: int
    images: int
    rank_correlation: float
    interpretability: float
    separation: float


@dataclass(frozen=True)
class WalkEffect:
    """Change of one measure along walks in one attribute.

    Attributes:
        group: Group of the images.
        along: Measure whose attribute changes.
        measured: Measure of the decoded images.
        images: Number of images from which walks start.
        correlation: Pearson correlation of attribute and measure along a walk, mean over the walks; a
            constant measure counts as 0.
        overall_correlation: The same over the decoded images of all walks together.
        change: Mean change of the measure in mm (area: mm²) for each step of a standard deviation.
    """

    group: str
    along: str
    measured: str
    images: int
    correlation: float
    overall_correlation: float
    change: float


@dataclass(frozen=True)
class Walk:
    """Decoded images along a walk in one attribute.

    Attributes:
        along: Measure whose attribute changes.
        attribute: (N,) values of the attribute.
        images: (N, H, W) raw.
        sizes: Measure -> (N,) mm (area: mm²).
    """

    along: str
    attribute: np.ndarray
    images: np.ndarray
    sizes: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class AttributeStudy:
    """Results for a model with attributes.

    Attributes:
        fits: Agreement of each attribute with its measure.
        effects: Changes along walks.
        walks: Group -> walks.
    """

    fits: Sequence[AttributeFit] = ()
    effects: Sequence[WalkEffect] = ()
    walks: Mapping[str, Sequence[Walk]] = field(default_factory=dict)


def study_attributes(study: LatentStudy) -> AttributeStudy:
    """Measure all images of a study and walk along each attribute; empty for a model without attributes."""
    attributes = attributes_of(study.module)
    if attributes is None:
        return AttributeStudy()
    data = study.checkpoint.config["data"]
    groups = trained_groups(study.latents.groups, data.get("sources"))
    sizes = bone_sizes([image.path for image in study.images], data["pixel_mm"])
    walks = walks_of(study, attributes, groups)
    fits = attribute_fits(study.latents, attributes, sizes, groups)
    return AttributeStudy(fits, walk_effects(walks), walks)


def trained_groups(groups: Sequence[str], sources: str | None) -> list[str]:
    """Leave out the dente images of a model that was trained on edente images alone, and the reverse.

    Args:
        groups: Groups of a study.
        sources: ``data.sources`` of the training; None = unknown.
    """
    untrained = {"target": "dente", "condition": "edente"}.get(sources or "")
    return [group for group in groups if group != untrained]


def attribute_fits(
    latents: Latents,
    attributes: LatentAttributes,
    sizes: Mapping[str, np.ndarray],
    groups: Sequence[str],
) -> list[AttributeFit]:
    """Compare each attribute with its measure in each group.

    Args:
        latents: Latents of N images.
        attributes: The model's attributes.
        sizes: Measure -> (N,) measured in the images, NaN where unknown.
        groups: Groups to compare in.
    """
    from scipy.stats import spearmanr

    channels = latents.mean.mean((2, 3), dtype=np.float64)
    rows = []
    for group in groups:
        for channel, measure in enumerate(attributes.measures):
            members = (latents.group == group) & np.isfinite(sizes[measure]) & _unseen(latents)
            values, means = sizes[measure][members], channels[members]
            if len(values) < 3 or np.ptp(values) == 0:
                continue
            r2 = [_correlation(column, values) ** 2 for column in means.T]
            others = [score for other, score in enumerate(r2) if other != channel]
            rank = float(spearmanr(means[:, channel], values)[0])  # pyright: ignore[reportArgumentType]
            separation = r2[channel] - max(others, default=0.0)
            rows.append(AttributeFit(group, measure, channel, len(values), rank, r2[channel], separation))
    return rows


def walks_of(
    study: LatentStudy, attributes: LatentAttributes, groups: Sequence[str]
) -> dict[str, list[Walk]]:
    """Walk along each attribute from some images of each group that the training hasn't seen.

    Returns:
        Group -> walks.
    """
    latents, walks = study.latents, {}
    for group in groups:
        members = np.flatnonzero((latents.group == group) & _unseen(latents)).tolist()
        walks[group] = [
            _walk(study, attributes, index, measure)
            for measure in attributes.measures
            for index in evenly_spaced(members, _WALKS)
        ]
    return {group: own for group, own in walks.items() if own}


def walk_effects(walks: Mapping[str, Sequence[Walk]]) -> list[WalkEffect]:
    """Compute what the walks of each group (see `walks_of`) change."""
    rows = []
    for group, own in walks.items():
        for along in dict.fromkeys(walk.along for walk in own):
            chosen = [walk for walk in own if walk.along == along]
            attribute = np.stack([walk.attribute for walk in chosen])
            for measured in _MEASURED:
                sizes = np.stack([walk.sizes[measured] for walk in chosen])
                each = [_correlation(*pair) for pair in zip(attribute, sizes, strict=True)]
                overall = _correlation(attribute.ravel(), sizes.ravel())
                change = np.nanmean([_slope(*pair) for pair in zip(attribute, sizes, strict=True)])
                rows.append(
                    WalkEffect(
                        group, along, measured, len(chosen), float(np.mean(each)), overall, float(change)
                    )
                )
    return rows


def move_latents(
    attributes: LatentAttributes, mean: np.ndarray, measure: str, steps: np.ndarray
) -> torch.Tensor:
    """Return latents (N, C, h, w) at N steps along an attribute from latents (C, h, w).

    Args:
        attributes: The model's attributes.
        mean: The latents.
        measure: Measure whose attribute changes.
        steps: (N,) standard deviations of the measure.
    """
    changes = torch.zeros(len(steps), len(attributes.measures))
    changes[:, attributes.measures.index(measure)] = torch.from_numpy(steps).float()
    return attributes.move(torch.from_numpy(mean)[None].expand(len(steps), -1, -1, -1), changes)


def _walk(study: LatentStudy, attributes: LatentAttributes, index: int, measure: str) -> Walk:
    image, device = tif.read(study.images[index].path), attributes.scale.device
    data = study.checkpoint.config["data"]
    square = resize.pad_and_resize(image.pixels, data["image_size"])
    square = torch.from_numpy(square)[None, None].to(device)
    latents = move_latents(attributes, study.latents.mean[index], measure, STEPS)
    with torch.inference_mode():
        statistics = study.autoencoder.normalization.statistics(square)
        decoded = study.autoencoder.decode(latents.to(device), statistics.expand(len(latents), -1))
    raw = resize.restore_size(decoded.float().cpu().numpy()[:, 0], image.pixels.shape)
    lengths = [find_bone(one, image.pixel_mm or data["pixel_mm"]).lengths for one in raw]
    sizes = {name: np.array([row[name] for row in lengths]) for name in lengths[0]}
    channel = attributes.measures.index(measure)
    return Walk(measure, attributes.read(latents)[:, channel].numpy(), raw, sizes)


def _unseen(latents: Latents) -> np.ndarray:
    """Select (N,) the images that aren't known to be training images; all if there are only such."""
    unseen = latents.split != "train"
    return unseen if unseen.any() else np.ones(len(latents), bool)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the Pearson correlation of two rows of values, without NaN; 0 if one is constant."""
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _slope(first: np.ndarray, second: np.ndarray) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    return float(np.polyfit(first[known], second[known], 1)[0]) if known.sum() > 1 else np.nan
