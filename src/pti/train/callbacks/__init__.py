"""What happens around training: checkpoints, signals, random generators, progress, metrics and pictures."""

from pti.modules.callbacks.checkpoint_io import AtomicCheckpointIO
from pti.modules.callbacks.checkpointing import Checkpointer
from pti.modules.callbacks.metrics_csv import MetricsCsv
from pti.modules.callbacks.pictures import Pictures
from pti.modules.callbacks.progress import TrainingProgress
from pti.modules.callbacks.randomness import Randomness
from pti.modules.callbacks.stopping import Interrupted, StopSignals

__all__ = [
    "AtomicCheckpointIO",
    "Checkpointer",
    "Interrupted",
    "MetricsCsv",
    "Pictures",
    "Randomness",
    "StopSignals",
    "TrainingProgress",
]
