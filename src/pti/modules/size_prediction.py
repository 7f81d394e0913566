"""Training of a predictor of the edente bone's sizes: a distribution of each, without an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from typing_extensions import override

from pti.common.errors import DataError, UsageError
from pti.common.precision import in_float32
from pti.common.transfer import to_device
from pti.data.normalization import Normalization
from pti.drawing.figures import Comparison
from pti.losses import at_least_float32, gaussian_crps
from pti.metrics.calibration import QUANTILES
from pti.modules.examples import comparison
from pti.modules.manual_optimization import ManualOptimization
from pti.modules.optimization import OptimizerFactory
from pti.modules.size_targets import (
    MEASURES,
    measure_training_set,
    power,
    relative_sizes,
    say_errors,
)
from pti.modules.translation import require_pairs
from pti.modules.validation_metrics import ValidationMetrics
from pti.networks.size_network import SizeNetwork
from pti.networks.size_ridge import SizeRidge

_MIN_STD = 0.02
"""Smallest predicted standard deviation, in standard deviations of the training set: 0.03 mm of height on the
phantom, a fifth of a pixel. It bounds the gradient, which grows as the deviation falls."""


class SizePrediction(ManualOptimization):
    """Predict a normal distribution of each measure of the edente bone from the dente image.

    Sizes are those of `pti.metrics.morphometry` in the edente image at the size of the network's images,
    divided by the edge of the image: what the network sees doesn't tell its scale, so that predictions are
    multiplied by the edge in mm. Each measure is standardised by its mean and standard deviation in the
    training set. Training minimises the mean CRPS over the measures that a bone has (minimum CRPS estimation,
    Gneiting et al. 2005); the distribution of a width at a fixed height is one of bones that are that high.

    Args:
        network: the image, or its latents, to a vector; a last linear layer makes the distributions of it.
        optimizer: parameters -> optimizer.
        measures: some of `MEASURES`; ``height`` among them.
        ridge: a regression on the network's inputs, fitted before the first step; the network then starts
            with its distributions and learns to correct them. None = the network alone.
        training: of `ManualOptimization`.
    """

    metric_shown = "bone_height_error_mm"
    deterministic = True
    shift: Tensor
    scale: Tensor
    fitted: Tensor
    powers: Tensor
    """(M,) the power of the edge that each measure is relative to."""

    def __init__(
        self,
        network: SizeNetwork,
        optimizer: OptimizerFactory,
        measures: Sequence[str] = MEASURES,
        ridge: SizeRidge | None = None,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        unknown = [name for name in measures if name not in MEASURES]
        if unknown or "height" not in measures:
            found = f"unknown {', '.join(unknown)}" if unknown else "no height"
            raise UsageError(
                f"model.measures: found {found}, expected height and any of {', '.join(MEASURES)}."
            )
        self.measures = tuple(measures)
        count = len(self.measures)
        last = nn.Linear(network.width, 2 * count)
        if ridge is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.ridge = ridge
        self._folds: dict[str, int] = {}
        self.network = self.in_memory_format(nn.Sequential(network, last))
        self.ema = self.average_of(self.network)
        self.trained_networks, self.optimizer_factories = (self.network,), (optimizer,)
        self.metrics = ValidationMetrics([], ["loss", "constant_loss", "bone_height_error_mm"])
        self.register_buffer("shift", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("fitted", torch.tensor(False))
        powers = torch.tensor([float(power(name)) for name in self.measures])
        self.register_buffer("powers", powers, persistent=False)

    @property
    @abstractmethod
    def normalization(self) -> Normalization:
        """Normalisation of the dente images."""

    @abstractmethod
    def inputs(self, raw: Tensor) -> Tensor:
        """Return the network's inputs for raw dente images (B, 1, S, S)."""

    def training_inputs(self, batch: dict[str, Any]) -> Tensor:
        """Return the network's inputs for a training batch."""
        return self.inputs(batch["condition"])

    def sizes_of(self, batch: dict[str, Any]) -> Tensor:
        """Measure the targets of a batch that is still on the CPU; see `relative_sizes`."""
        return relative_sizes(batch["target"], batch["pixel_mm"], self.measures)

    @override
    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Add ``sizes`` (B, M) and ``folds`` (B,), so that no step waits for them."""
        folds = torch.tensor([self._folds.get(name, 0) for name in batch["name"]])
        return batch | {"sizes": self.sizes_of(batch), "folds": folds}

    @override
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Minimise the mean CRPS of a batch; a batch without bone gives no gradient."""
        with self.optimizing(self.network, batch_idx) as minimize:
            distribution = self._distribution(self.network, self.training_inputs(batch), batch["folds"])
            losses = self._losses(*distribution, batch["sizes"])
            loss = losses.nansum() / losses.isfinite().sum().clamp_min(1)
            minimize(loss)
        return self.end_of_batch({"loss": loss}, len(losses))

    @override
    @torch.no_grad()
    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add the CRPS of each image with bone, that of the training set's distribution, the height error."""
        sizes = batch["sizes"]
        mean, std = self._predict(batch["condition"])
        constant = self._losses(torch.zeros_like(mean), torch.ones_like(std), sizes)
        for name, losses in (("loss", self._losses(mean, std, sizes)), ("constant_loss", constant)):
            self.metrics.means.update(name, losses.nanmean(1), skip_nan=True)
        errors = (mean * self.scale + self.shift - sizes).abs()[:, self.measures.index("height")]
        edge = batch["pixel_mm"].to(errors) * batch["target"].shape[-1]
        self.metrics.means.update("bone_height_error_mm", errors * edge, skip_nan=True)

    @torch.no_grad()
    def predict_sizes(self, raw: Tensor, pixel_mm: Tensor) -> Tensor:
        """Predict sizes of the edente bones.

        Args:
            raw: raw dente images (B, 1, S, S), background exactly 0, of the size that was trained on.
            pixel_mm: (B,), edge of a pixel, mm.

        Returns:
            (B, M, K) quantiles i / (K + 1) of each of ``measures``, mm (area: mm²), at least 0.
        """
        with in_float32(raw.device):
            mean, std = self._predict(raw)
        levels = torch.arange(1, QUANTILES + 1, dtype=torch.float64) / (QUANTILES + 1)
        z = to_device(torch.special.ndtri(levels), mean.device, mean.dtype)
        relative = self.shift[:, None] + self.scale[:, None] * (mean[..., None] + std[..., None] * z)
        edge = pixel_mm.to(mean)[:, None] * raw.shape[-1]
        return (relative * (edge**self.powers)[..., None]).clamp_min(0)

    @override
    @torch.no_grad()
    def example_pictures(self, batch: dict[str, Any]) -> dict[str, Comparison]:
        quantiles = self.predict_sizes(batch["condition"], batch["pixel_mm"])
        sizes = relative_sizes(batch["target"], batch["pixel_mm"], self.measures)
        height = self.measures.index("height")
        edge = batch["pixel_mm"].to(sizes) * batch["target"].shape[-1]
        values = zip(quantiles[:, height], sizes[:, height] * edge, batch["name"], strict=True)
        captions = [
            f"{name}\nheight {own[QUANTILES // 2]:.1f} mm, 90 %: {own[1]:.1f}–{own[-2]:.1f}; true {true:.1f}"
            for own, true, name in values
        ]
        return {"examples": comparison({name: batch[name] for name in ("condition", "target")}, captions)}

    @override
    def setup(self, stage: str) -> None:
        """Refuse data without pairs; compile."""
        if stage == "fit":
            require_pairs(self.datamodule)
        self.compile_in_place([self.network])

    @override
    def on_fit_start(self) -> None:
        """Fit the standardisation of the sizes, unless it is fitted, and the ridge regression.

        The regression is fitted in resumed trainings, too: a checkpoint holds no maps of the folds.

        Raises:
            DataError: no edente image of the training set has bone.
        """
        if self.fitted and self.ridge is None:
            return
        reducer = None if self.ridge is None else self.ridge.inputs
        sizes, inputs, patients = measure_training_set(
            self.datamodule, self.normalization, self.measures, reducer, self.device
        )
        if not self.fitted:
            self._fit_standardization(sizes)
        if self.ridge is not None:
            standard = (sizes - self.shift.cpu()) / self.scale.cpu()
            folds = self.ridge.fit(inputs.numpy(), standard.numpy(), patients)
            names = [sample.name for sample in self.datamodule.training_set().samples]
            self._folds = dict(zip(names, folds.tolist(), strict=True))
            say_errors(self.measures, self.ridge.error.tolist())

    def _fit_standardization(self, sizes: Tensor) -> None:
        """Store mean and standard deviation of the training set's sizes (N, M)."""
        for column, values in enumerate(sizes.T):
            known = values[values.isfinite()]
            if len(known) > 1 and known.std() > 0:
                self.shift[column], self.scale[column] = known.mean(), known.std()
        if not sizes.isfinite().any():
            raise DataError(
                f"{self.datamodule.root}: no edente image of the training split has bone, so no sizes can be "
                "learnt. Run pti check and pti measure."
            )
        self.fitted.fill_(True)

    def _losses(self, mean: Tensor, std: Tensor, sizes: Tensor) -> Tensor:
        """Return the CRPS (B, M) of standardised predictions; NaN where a bone lacks the measure."""
        return gaussian_crps(mean, std, (sizes - self.shift) / self.scale)

    def _predict(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network if self.ema is None else self.ema.model
        return self._distribution(network, self.inputs(raw))

    def _distribution(
        self, network: nn.Module, inputs: Tensor, folds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, (B, M) each, of standardised sizes.

        ``folds`` (B,) are those of training images, see `SizeRidge`.
        """
        mean, width = at_least_float32(network(inputs)).chunk(2, dim=1)
        if self.ridge is not None:
            mean = mean + self.ridge(inputs, folds)
            width = (
                width + self.ridge.error.clamp_min(_MIN_STD).expm1().log()
            )  # softplus(width) is the error before the first step
        return mean, softplus(width) + _MIN_STD
