"""Normalization: round trips, the gap, statistics in the state, half precision, sampled percentiles."""

import numpy as np
import pytest
import torch

from pti.common.errors import DataError
from pti.data.normalization import MaskedZScore, Normalization, RangeNormalization


def _images(low: float, high: float, count: int = 6, size: int = 32) -> list[np.ndarray]:
    """Return discs of tissue, uniform in [low, high], on background exactly 0."""
    generator = np.random.default_rng(0)
    grid = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]) < 0.8
    return [(generator.uniform(low, high, (size, size)) * grid).astype(np.float32) for _ in range(count)]


def _fitted(kind: type[Normalization], images: list[np.ndarray]) -> Normalization:
    normalization = kind()
    if not normalization.fitted:
        normalization.fit(images)
    assert normalization.fitted
    return normalization


KINDS = [RangeNormalization, MaskedZScore]
RANGES = [(0.1, 1.0), (300.0, 3000.0), (-1000.0, 1500.0), (1e-4, 2e-4)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bounds", RANGES)
def test_round_trip_is_exact_to_float32(kind: type[Normalization], bounds: tuple[float, float]) -> None:
    images = _images(*bounds)
    outliers = [bounds[0] * 0.5, bounds[1] * 3, bounds[0], bounds[1] * 50]
    images[0][16, 14:18] = outliers
    normalization = _fitted(kind, images)
    raw = torch.from_numpy(np.stack([*images, np.zeros_like(images[0])])[:, None])
    statistics = normalization.statistics(raw)
    image = normalization.normalize(raw, statistics)
    back = normalization.denormalize(image, statistics)
    assert image.dtype == back.dtype == torch.float32
    assert torch.equal(back == 0, raw == 0)
    width = bounds[1] - bounds[0]
    assert ((back - raw).abs() <= 1e-6 * width + 1e-6 * raw.abs()).all()


def test_range_puts_background_and_tissue_apart() -> None:
    images = _images(0.1, 1.0)
    normalization = RangeNormalization(percentiles=(0.5, 99.5), gap=0.2)
    normalization.fit(images)
    raw = torch.from_numpy(np.stack(images)[:, None])
    image = normalization.normalize(raw, normalization.statistics(raw))
    tissue = image[raw != 0]
    assert (image[raw == 0] == -1).all()
    assert tissue.min() >= -0.9
    inside = (tissue >= -0.8) & (tissue <= 1)
    assert 0.985 <= inside.double().mean() <= 0.995  # 0.5 % are outside at each end


def test_range_bend_is_smooth_and_ends_at_the_floor() -> None:
    normalization = RangeNormalization()
    normalization.fit(_images(-5.0, 10.0))
    low, high, floor, _ = normalization.bounds.tolist()
    raw = torch.linspace(floor - 20, high + 20, 4001).reshape(1, 1, 1, -1)
    raw = torch.where(raw == 0, 1e-6, raw)
    statistics = normalization.statistics(raw)
    image = normalization.normalize(raw, statistics)
    step = image.diff(dim=-1)
    assert (step >= 0).all()
    assert (step[raw[..., 1:] > floor] > 0).all()
    assert step.max() <= 1.001 * 1.8 / (high - low) * float(raw[0, 0, 0, 1] - raw[0, 0, 0, 0])
    back = normalization.denormalize(image, statistics)
    torch.testing.assert_close(back, raw.clamp(min=floor), rtol=1e-5, atol=1e-5)


def test_decoded_rim_stays_in_range() -> None:
    """A decoder's output crosses the gap continuously: no value there may become huge."""
    normalization = RangeNormalization()
    normalization.fit(_images(0.1, 1.0))
    image = torch.linspace(-1.2, 1.2, 10001).reshape(1, 1, 1, -1)
    raw = normalization.denormalize(image, normalization.statistics(image))
    edge = -1 + normalization.bounds[3] / 2
    assert (raw[image < edge] == 0).all()
    assert (raw[image > edge] > 0).all()
    assert raw.max() < 1.3


def test_metal_does_not_take_the_range() -> None:
    """Bone keeps its contrast beside saturated metal, and metal its value."""
    images = _images(300.0, 3000.0)
    plain, limited = RangeNormalization(bright_limit=2.0), RangeNormalization(bright_limit=2.0)
    plain.fit(images)
    images[0][10:18, 10:18] = 30000.0
    limited.fit(images)
    assert limited.bounds[1] < 2.1 * plain.bounds[1]
    raw = torch.from_numpy(np.stack(images)[:, None])
    image = limited.normalize(raw, limited.statistics(raw))
    assert image[raw == 30000].min() > 1
    assert image.max() < 5
    torch.testing.assert_close(limited.denormalize(image, limited.statistics(raw)), raw, rtol=2e-5, atol=0)
    unlimited = RangeNormalization()
    unlimited.fit(images)
    assert unlimited.bounds[1] == 30000


def test_the_limit_leaves_images_without_metal_alone() -> None:
    for bounds in RANGES:
        with_limit, without = RangeNormalization(bright_limit=2.0), RangeNormalization()
        for normalization in (with_limit, without):
            normalization.fit(_images(*bounds))
        assert torch.equal(with_limit.bounds, without.bounds)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_a_limit_of_no_use_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="above 1"):
        RangeNormalization(bright_limit=limit)


@pytest.mark.parametrize("darkest", [1.0, 200.0, 1900.0])
def test_half_of_the_bones_value_is_half_way_through_its_blurred_rim(darkest: float) -> None:
    """A decoder blurs the rim of the bone; its edge, at half of its value, must not move."""
    normalization = RangeNormalization()
    normalization.fit(_images(darkest, 5000.0))
    statistics = normalization.statistics(torch.zeros(1, 1, 1, 1))
    bone = normalization.normalize(torch.full((1, 1, 1, 1), 3400.0), statistics).item()
    blurred = torch.linspace(-1.0, bone, 1001).reshape(1, 1, 1, -1)
    raw = normalization.denormalize(blurred, statistics)
    crossing = (raw > 1700).float().argmax().item() / 1000
    assert crossing == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_survive_the_state_and_half_precision(kind: type[Normalization]) -> None:
    images = _images(1001.0, 1009.0)
    normalization, other = _fitted(kind, images), kind()
    other.load_state_dict(normalization.state_dict())
    raw = torch.from_numpy(np.stack(images)[:, None])
    expected = normalization.normalize(raw, normalization.statistics(raw))
    assert other.fitted
    for cast in (other, other.double(), other.half(), other.bfloat16()):
        assert torch.equal(cast.normalize(raw, cast.statistics(raw)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_has_no_effect(kind: type[Normalization]) -> None:
    images = _images(0.1, 1.0)
    normalization = _fitted(kind, images)
    raw = torch.from_numpy(np.stack(images)[:, None])
    statistics = normalization.statistics(raw)
    expected = normalization.normalize(raw, statistics)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = normalization.normalize(raw, normalization.statistics(raw))
        assert image.dtype == torch.float32
        assert torch.equal(image, expected)
        assert normalization.denormalize(image.bfloat16(), statistics).dtype == torch.float32


def test_percentiles_of_many_pixels_are_close_to_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(0.1, 1.0, count=40)
    exact = np.percentile(np.concatenate([image[image != 0] for image in images]), (0.5, 99.5))
    monkeypatch.setattr("pti.data.normalization.MAX_SAMPLES", 4096)
    normalization = RangeNormalization()
    normalization.fit(iter(images))
    np.testing.assert_allclose(normalization.bounds[:2].numpy(), exact, atol=0.01)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_images_without_contrast_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        RangeNormalization().fit([np.full((4, 4), value, np.float32)])


def test_masked_zscore_is_mean_0_std_1_over_tissue() -> None:
    raw = torch.from_numpy(np.stack(_images(200.0, 900.0))[:, None])
    normalization = MaskedZScore()
    image = normalization.normalize(raw, normalization.statistics(raw))
    for values, tissue in zip(image.double(), raw != 0, strict=True):
        assert abs(values[tissue].mean()) < 1e-5
        assert abs(values[tissue].std(unbiased=False) - 1) < 1e-5
    assert (image[raw == 0] == 0).all()
