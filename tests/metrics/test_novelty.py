"""Rates of false alarms and of hits, on distributions that are known."""

import math

import numpy as np
import pytest

from pti.metrics.novelty import CONFORMAL_RATE, Mahalanobis, NoveltyLimit


def draws(
    rng: np.random.Generator, patients: int, slices: int = 1, tail: float = 1.0
) -> dict[str, np.ndarray]:
    """Two positive scores of images, log-normal; patients differ as much as slices do."""
    common = np.repeat(rng.standard_normal((patients, 2)), slices, axis=0)
    logs = (common + rng.standard_normal((patients * slices, 2))) * tail
    return {"one": np.exp(logs[:, 0]), "other": np.exp(3 * logs[:, 1] + 5)}


def names(patients: int, slices: int = 1) -> list[str]:
    return [str(index // slices) for index in range(patients * slices)]


def rows(scores: dict[str, np.ndarray]) -> list[dict[str, float]]:
    return [dict(zip(scores, map(float, row), strict=True)) for row in zip(*scores.values(), strict=True)]


@pytest.mark.parametrize(("patients", "slices"), [(5, 1), (8, 4), (20, 1), (60, 2)])
def test_at_most_two_percent_of_unseen_patients_are_flagged(patients, slices):
    rng, rates = np.random.default_rng(patients), []
    for _ in range(60):
        limit = NoveltyLimit.fit(draws(rng, patients, slices), names(patients, slices))
        unseen = rows(draws(rng, 100))
        rates.append(np.mean([limit.judge(row).is_unlike for row in unseen]))
    assert np.mean(rates) <= CONFORMAL_RATE


def test_one_odd_score_is_enough_and_is_named():
    rng = np.random.default_rng(0)
    limit = NoveltyLimit.fit(draws(rng, 60), names(60))
    usual = {"one": 1.0, "other": math.exp(5)}
    assert not limit.judge(usual).is_unlike
    for score in usual:
        verdict = limit.judge({**usual, score: usual[score] * math.exp(30)})
        assert verdict.is_unlike
        assert verdict.score == score
        assert verdict.trust < 1e-6
    assert limit.judge({"other": usual["other"]}).trust > 0.5  # some scores may be missing


def test_trust_is_the_share_of_patients_that_are_at_least_as_unusual():
    rng = np.random.default_rng(1)
    limit = NoveltyLimit.fit(draws(rng, 200), names(200))
    trust = np.array([limit.judge(row).trust for row in rows(draws(rng, 1000))])
    for share in (0.1, 0.5, 0.9):
        assert np.mean(trust < share) == pytest.approx(share, abs=0.08)  # the novelty is only nearly normal


def test_the_conformal_limit_guards_against_heavy_tails():
    rng = np.random.default_rng(2)
    heavy = {"one": np.exp(rng.standard_t(2, 400))}
    limit = NoveltyLimit.fit(heavy, names(400))
    unseen = np.exp(rng.standard_t(2, 4000))
    rate = np.mean([limit.judge({"one": float(value)}).is_unlike for value in unseen])
    assert 0.002 < rate < 0.04


def test_distances_know_correlation_and_do_not_need_more_images_than_features():
    rng = np.random.default_rng(3)
    common = rng.standard_normal((500, 1))
    pair = np.hstack([common, common + 0.1 * rng.standard_normal((500, 1))])
    along, across = (Mahalanobis.fit(pair).distance(np.array(point)) for point in ([2.0, 2.0], [1.0, -1.0]))
    assert across > 3 * along
    few = Mahalanobis.fit(rng.standard_normal((10, 30)))
    assert few.distance(np.full(30, 9.0)) > 3 * few.distance(rng.standard_normal(30))


def test_a_feature_that_never_varied_counts_when_it_changes():
    features = np.random.default_rng(4).standard_normal((50, 3))
    features[:, 1] = 100.0
    features[:, 2] = 0.0
    fitted = Mahalanobis.fit(features)
    usual = fitted.distance(np.array([0.0, 100.0, 0.0]))
    assert fitted.distance(np.array([0.0, 150.0, 0.0])) > 10 * usual + 10
    assert math.isfinite(fitted.distance(np.array([0.0, 100.0, 1.0])))
