"""Attributes in the latents of stage 1: channels whose mean follows a measure of the bone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.metrics.bone_agreement import find_bone
from pti.modules.measure_table import MeasureTable
from pti.modules.size_targets import MEASURES, power, relative_sizes


class LatentAttributes(nn.Module):
    """One attribute of the latents (B, C, h, w) for each measure: the mean over positions of one channel.

    The attribute of measure number k is the mean of channel k. Two losses give it its meaning:

    - the order loss, `pti.losses.attribute_order` (Pati & Lerch 2020, arXiv 2004.05485), makes the encoder
      order the attributes of a batch as the measures;
    - the steering loss (after Jahanian et al. 2020, arXiv 1907.07171, equation 2) makes the decoder follow
      them: an image is stretched, which changes its measures by d standard deviations, and the latents of
      the original image, with d added to the channels, must decode to the stretched one.

    The order loss alone leaves a decoder free to ignore the means: latents that have positions describe the
    bone's outline, too.

    Args:
        measures: some of `MEASURES`; the first latent channels belong to them, in this order.
        weight: of the order loss.
        delta: factor of the attributes' differences in the order loss.
        steering_weight: of the steering loss; 0 leaves it out.
        stretch: largest relative change of a bone's height, and of its width, when an image is stretched.
        table: CSV file of measures, as ``python -m pti.measure`` writes it; None measures the images.
    """

    scale: Tensor
    """(M,) standard deviation of each measure over the training images, as in `relative_sizes`."""
    fitted: Tensor

    def __init__(
        self,
        measures: Sequence[str] = ("height", "width_half"),
        *,
        weight: float = 0.1,
        delta: float = 2.0,
        steering_weight: float = 1.0,
        stretch: float = 0.15,
        table: str | Path | None = None,
    ) -> None:
        super().__init__()
        unknown = [name for name in measures if name not in MEASURES]
        if unknown or not measures or len(set(measures)) < len(measures):
            raise UsageError(
                f"model.attributes.measures={list(measures)}: expected one or more different ones of "
                f"{', '.join(MEASURES)}."
            )
        if not 0 < stretch < 1:
            raise UsageError(f"model.attributes.stretch={stretch}: expected a number between 0 and 1.")
        self.measures = tuple(measures)
        self.weight, self.delta, self.steering_weight = weight, delta, steering_weight
        self.stretch = stretch
        self.table = None if table is None else MeasureTable(Path(table), self.measures)
        self.register_buffer("scale", torch.ones(len(self.measures)))
        self.register_buffer("fitted", torch.tensor(False))

    def require_channels(self, latent_channels: int) -> None:
        """Refuse latents with fewer channels than measures.

        Raises:
            UsageError: There are fewer.
        """
        if latent_channels < len(self.measures):
            raise UsageError(
                f"model.attributes.measures: found {len(self.measures)} measures, expected at most "
                f"{latent_channels}, the number of model.autoencoder.latent_channels."
            )

    def read(self, latents: Tensor) -> Tensor:
        """Return the attributes (B, M) of latents (B, C, h, w)."""
        return latents[:, : len(self.measures)].mean((2, 3))

    def move(self, latents: Tensor, steps: Tensor) -> Tensor:
        """Add to the attributes of latents (B, C, h, w).

        Args:
            latents: The latents.
            steps: (B, M), standard deviations of the measures; each adds 1 to its channel at all positions.
        """
        rest = latents.shape[1] - steps.shape[1]
        added = torch.cat([steps, steps.new_zeros(len(steps), rest)], 1).to(latents)
        return latents + added[:, :, None, None]

    def fit(self, batches: Iterable[dict[str, Any]], sources: str) -> None:
        """Measure the standard deviation of each measure within the dente and within the edente images.

        Args:
            batches: Training images without augmentation, on the CPU; see `sizes_of`.
            sources: ``data.sources``.

        Raises:
            UsageError: A measure doesn't vary, or the table lacks it for all images.
        """
        groups: dict[str, list[Tensor]] = {}
        for batch in batches:
            for name, row in zip(batch["name"], self.sizes_of(batch, sources), strict=True):
                groups.setdefault(name.split("/")[0] if sources == "both" else "", []).append(row)
        sizes = torch.cat([rows - rows.nanmean(0) for rows in map(torch.stack, groups.values())])
        for column, (name, values) in enumerate(zip(self.measures, sizes.T, strict=True)):
            known = values[values.isfinite()]
            if len(known) < 2 or not known.std() > 0:
                origin = "the training images"
                if self.table is not None:
                    origin = setting("model.attributes.table", self.table.path)
                raise UsageError(
                    f"model.attributes.measures: found {len(known)} values of {name} in {origin}, expected "
                    "several different ones. Choose another measure, or check the images with pti measure."
                )
            self.scale[column] = known.std()
        self.fitted.fill_(True)

    def sizes_of(self, batch: dict[str, Any], sources: str) -> Tensor:
        """Return the measures (B, M) of a batch on the CPU, as in `relative_sizes`, NaN where one is missing.

        Args:
            batch: ``image`` (B, 1, S, S) raw, ``pixel_mm`` (B,), ``name``.
            sources: ``data.sources``, which says what images without a folder in their name are.
        """
        if self.table is None:
            return relative_sizes(batch["image"], batch["pixel_mm"], self.measures)
        edges = batch["pixel_mm"] * batch["image"].shape[-1]
        powers = torch.tensor([float(power(name)) for name in self.measures])
        return self.table.rows(batch["name"], sources) / edges[:, None] ** powers

    def training_inputs(
        self, batch: dict[str, Any], sources: str, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute what the losses of a training batch on the CPU compare.

        Args:
            batch: See `sizes_of`.
            sources: ``data.sources``.
            generator: Generator of the stretches, on the CPU.

        Returns:
            ``sizes`` (2B, M): measures of the images, then of the stretched ones; ``stretched`` (B, 1, S, S)
            raw; ``changes`` (B, M): differences of the measures, 0 where unknown.
        """
        image, pixel_mm = batch["image"], batch["pixel_mm"]
        stretched = stretch_bones(image, self.stretch, generator)
        before, after = (relative_sizes(raw, pixel_mm, self.measures) for raw in (image, stretched))
        sizes = before if self.table is None else self.sizes_of(batch, sources)
        changes = after - before
        sizes = torch.cat([sizes, sizes + changes])
        return {"sizes": sizes, "stretched": stretched, "changes": changes.nan_to_num(0.0)}


def stretch_bones(raw: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    """Stretch raw images vertically from the base of the bone and horizontally from its middle.

    Args:
        raw: (B, 1, S, S), background exactly 0; images without bone stay as they are.
        limit: Largest relative change of height and of width, drawn uniformly and independently.
        generator: On the CPU.
    """
    size = raw.shape[-1]
    change = 1 + limit * (2 * torch.rand(len(raw), 2, generator=generator) - 1)
    maps = torch.zeros(len(raw), 2, 3)
    for index, image in enumerate(raw[:, 0].numpy()):
        bone = find_bone(image, 1.0)
        factors = change[index] if bone.mask.any() else torch.ones(2)
        columns = np.flatnonzero(bone.mask.any(0))
        fixed = (columns.mean() + 0.5, bone.size.base_row + 1) if len(columns) else (0.0, 0.0)
        for axis, (at, factor) in enumerate(zip(fixed, factors.tolist(), strict=True)):
            centre = 2 * at / size - 1  # in grid_sample's coordinates
            maps[index, axis, axis], maps[index, axis, 2] = 1 / factor, centre - centre / factor
    grid = affine_grid(maps, list(raw.shape), align_corners=False)
    cover, values = (
        grid_sample(tensor, grid, align_corners=False) for tensor in ((raw != 0).float(), raw.float())
    )
    # As in resizing: a pixel is background if less than half of it is tissue, otherwise the mean.
    return torch.where(cover >= 0.5, values, 0.0)


def attributes_of(module: nn.Module) -> LatentAttributes | None:
    """Return the attributes of a stage-1 module; None for a module without any."""
    attributes = getattr(module, "attributes", None)
    return attributes if isinstance(attributes, LatentAttributes) else None


def adapt_attributes(state: dict[str, Any], attributes: LatentAttributes | None) -> None:
    """Add attributes that the weights of a stage 1 lack, and drop those that are not configured."""
    stored = [name for name in state if name.startswith("attributes.")]
    if attributes is None:
        for name in stored:
            del state[name]
    elif not stored:
        state |= {f"attributes.{name}": value for name, value in attributes.state_dict().items()}
