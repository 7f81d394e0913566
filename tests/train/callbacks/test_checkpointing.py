"""Choice of the best checkpoint."""

import math

import pytest

from pti.common.errors import UsageError
from pti.train.callbacks.checkpointing import Checkpointer, improves, replaces


def test_a_metric_of_nan_never_improves():
    assert not improves(math.nan, None, "min")
    assert improves(1.0, None, "min")
    assert not improves(-math.inf, 1.0, "min")
    assert improves(0.5, 1.0, "min")
    assert not improves(1.0, 1.0, "min")
    assert improves(1.5, 1.0, "max")
    assert not improves(0.5, 1.0, "max")


BLANK, LEARNED = {"monitor": 0.12, "at_baseline": True}, {"monitor": 0.2, "at_baseline": False}


@pytest.mark.parametrize(
    ("value", "at_baseline", "best", "replaced"),
    [
        (0.9, True, {}, True),
        (0.11, True, BLANK, True),
        (0.13, True, BLANK, False),
        (0.3, False, BLANK, True),
        (math.nan, False, BLANK, False),
        (0.01, True, LEARNED, False),
        (0.1, False, LEARNED, True),
        (0.3, False, LEARNED, False),
        (0.3, False, {"monitor": 0.2}, False),  # resumed from a checkpoint of an earlier version
    ],
)
def test_a_collapsed_model_is_never_the_best_if_another_one_exists(value, at_baseline, best, replaced):
    assert replaces(value, at_baseline, best, "min") is replaced


@pytest.mark.parametrize(
    ("value", "monitored", "best", "replaced"),
    [
        (9.0, 0, {"monitor": 0.1, "monitored": 1, "at_baseline": False}, True),
        (0.1, 1, {"monitor": 9.0, "monitored": 0, "at_baseline": False}, False),
        (0.1, 1, {"monitor": 0.2, "monitored": 1, "at_baseline": False}, True),
        (math.nan, 0, {"monitor": 0.2, "monitored": 1, "at_baseline": False}, False),
        (0.1, 0, {"monitor": 0.2, "at_baseline": False}, True),  # from a checkpoint of an earlier version
    ],
)
def test_the_first_of_several_metrics_counts_wherever_it_is_finite(value, monitored, best, replaced):
    assert replaces(value, False, best, "min", monitored) is replaced


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"patience": 0, "monitor": "val/loss"}, "patience=0: expected 1 or more"),
        ({"patience": 3}, "patience=3: expected a metric in callbacks.checkpointer.monitor"),
    ],
)
def test_a_patience_that_cannot_end_anything_is_refused(options, named):
    with pytest.raises(UsageError, match=named):
        Checkpointer(**options)
