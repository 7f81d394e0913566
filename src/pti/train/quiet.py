"""Lightning's messages: those on deliberate choices are hidden."""

from __future__ import annotations

import logging
import warnings

_HIDDEN_WARNINGS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*You have overridden `on_before_batch_transfer`.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    ".*It is recommended to use `self.log.*sync_dist.*",  # the modules combine the metrics of the ranks
)


def hide_warnings() -> None:
    """Hide these warnings, and messages of Lightning below warnings."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in _HIDDEN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
