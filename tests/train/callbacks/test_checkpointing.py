"""Choice of the best checkpoint."""

import math

from pti.train.callbacks.checkpointing import improves


def test_a_metric_of_nan_never_improves():
    assert not improves(math.nan, None, "min")
    assert improves(1.0, None, "min")
    assert not improves(-math.inf, 1.0, "min")
    assert improves(0.5, 1.0, "min")
    assert not improves(1.0, 1.0, "min")
    assert improves(1.5, 1.0, "max")
    assert not improves(0.5, 1.0, "max")
