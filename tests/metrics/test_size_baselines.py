import numpy as np
import pytest

from pti.metrics.error_budget import HeightDistribution, error_budget
from pti.metrics.size_baselines import (
    TrainingSizes,
    leave_one_patient_out,
    linear_regression,
    minus_mean_loss,
)


def sizes(count: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Conditions and targets: the height falls by 3 and depends on the width; the width stays."""
    rng = np.random.default_rng(seed)
    height, width = rng.normal(30, 2, count), rng.normal(11, 1, count)
    return {"height": height, "width": width}, {"height": height - 3 + 0.5 * (width - 11), "width": width}


def test_mean_loss_is_taken_off():
    conditions, targets = sizes(500)
    predicted = minus_mean_loss(
        TrainingSizes(conditions, targets), {"height": np.array([30.0]), "width": np.array([9.0])}
    )
    assert predicted["height"][0] == pytest.approx(27, abs=0.1)
    assert predicted["width"][0] == pytest.approx(9)


def test_regression_recovers_a_linear_relation():
    conditions, targets = sizes(400)
    asked, expected = sizes(20, seed=1)
    predicted = linear_regression(TrainingSizes(conditions, targets), asked)
    np.testing.assert_allclose(predicted["height"], expected["height"], atol=0.02)


def test_regression_accepts_missing_and_constant_sizes():
    conditions, targets = sizes(50)
    conditions = {**conditions, "flat": np.ones(50), "top": np.where(np.arange(50) % 2, np.nan, 3.0)}
    targets = {**targets, "top": np.full(50, np.nan)}
    predicted = linear_regression(TrainingSizes(conditions, targets), conditions)
    assert np.isfinite(predicted["height"]).all()
    assert np.isnan(predicted["top"]).all()


def test_a_patient_is_predicted_from_the_others():
    conditions, targets = sizes(12)
    patients = [str(index // 3) for index in range(12)]
    targets["height"][:3] = 1000
    predicted = leave_one_patient_out(minus_mean_loss, conditions, targets, patients)
    assert (predicted["height"][:3] < 40).all()
    assert (predicted["height"][3:] > 100).all()


def test_budget_adds_up_in_squares():
    rng = np.random.default_rng(0)
    blur, chance, rest = (scale * rng.normal(0, 1, 100_000) for scale in (0.3, 0.4, 1.2))
    heights = HeightDistribution(np.full(100_000, 20.0), np.full(100_000, 0.4), 20 - chance)
    rows = {row.source: row for row in error_budget(blur + chance + rest, {"target": blur}, heights)}
    assert rows["all of it"].root_mean_square == pytest.approx(1.3, rel=0.01)
    assert rows["autoencoder, target"].root_mean_square == pytest.approx(0.3, rel=0.01)
    assert rows["chance"].mean_absolute == pytest.approx(0.4 * np.sqrt(2 / np.pi), rel=0.02)
    assert rows["translation"].root_mean_square == pytest.approx(1.2, rel=0.01)
    assert heights.best_crps == pytest.approx(0.4 / np.sqrt(np.pi), rel=0.02)
