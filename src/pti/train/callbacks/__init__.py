"""Lightning callbacks: checkpoints, collapse, forecast, stop signals, randomness, progress, metrics."""

from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO
from pti.train.callbacks.checkpointing import Checkpointer
from pti.train.callbacks.collapse import CollapseCheck
from pti.train.callbacks.forecast import Forecast, Forecasted
from pti.train.callbacks.metrics_csv import MetricsCsv
from pti.train.callbacks.pictures import Pictures
from pti.train.callbacks.progress import TrainingProgress
from pti.train.callbacks.randomness import Randomness
from pti.train.callbacks.stopping import Interrupted, StopSignals

__all__ = [
    "AtomicCheckpointIO",
    "Checkpointer",
    "CollapseCheck",
    "Forecast",
    "Forecasted",
    "Interrupted",
    "MetricsCsv",
    "Pictures",
    "Randomness",
    "StopSignals",
    "TrainingProgress",
]
