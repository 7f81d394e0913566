"""Normalisation that belongs to the module itself, not to an autoencoder."""

from __future__ import annotations

from typing_extensions import override

from pti.data.normalization import Normalization
from pti.modules.manual_optimization import ManualOptimization


class OwnNormalization(ManualOptimization):
    """Fit a normalisation on the training images before the first step, unless it is fitted already.

    List it before the other base classes, and set ``_normalization`` in the constructor.
    """

    _normalization: Normalization

    @property
    def normalization(self) -> Normalization:
        """Normalisation of all images."""
        return self._normalization

    @override
    def setup(self, stage: str) -> None:
        """Fit the normalisation."""
        super().setup(stage)
        if stage == "fit" and not self.normalization.fitted:
            self.normalization.fit(self.datamodule.training_images())
