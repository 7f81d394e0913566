"""Sizes that are drawn have the mean and the spread that patients outside the training set have."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pti.networks.size_condition import SizeCondition

MEASURES = ("height", "width_half")


def patients(count: int, seed: int, noise: float = 0.3) -> tuple[Tensor, np.ndarray, list[str]]:
    """Images (N, 1, 32, 32) of 4 x 4 cells, sizes (N, 2) that depend on four of them, and names."""
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(count, 4, 4))
    height = 0.5 + 0.05 * (cells[:, 0].sum(1) / 2 + noise * rng.normal(size=count))
    width = 0.2 + 0.02 * (cells[:, 0, 0] + noise * rng.normal(size=count))
    images = torch.from_numpy(np.kron(cells, np.ones((8, 8)))).float()[:, None]
    return images, np.stack([height, width], 1), [f"patient {index}" for index in range(count)]


def fit(condition: SizeCondition, images: Tensor, sizes: np.ndarray, names: list[str]) -> np.ndarray:
    inputs = torch.stack([condition.inputs(condition.inputs.copies(image[None])) for image in images])
    return condition.fit(inputs.numpy(), sizes, names)


def fitted(count: int = 200) -> SizeCondition:
    condition = SizeCondition(MEASURES, grid=4)
    fit(condition, *patients(count, 0))
    return condition


def draws(condition: SizeCondition, images: Tensor, samples: int) -> np.ndarray:
    """Sizes (samples, N, 2), in the units of the input."""
    drawn = []
    for sample in range(samples):
        generators = [torch.Generator().manual_seed(1000 * sample + index) for index in range(len(images))]
        drawn.append(condition.draw(images, generators) * condition.scale + condition.shift)
    return torch.stack(drawn).numpy()


@pytest.mark.parametrize("count", [40, 200])
def test_intervals_hold_as_many_new_patients_as_they_should(count: int):
    condition = fitted(count)
    images, sizes, _ = patients(300, 1)
    drawn = draws(condition, images, 200)
    for measure in range(2):
        low, high = np.quantile(drawn[..., measure], [0.1, 0.9], axis=0)
        held = ((low <= sizes[:, measure]) & (sizes[:, measure] <= high)).mean()
        assert held == pytest.approx(0.8, abs=0.11)  # five standard errors
    errors = np.abs(drawn.mean(0) - sizes).mean(0)
    assert (errors < 0.75 * np.abs(sizes - sizes.mean(0)).mean(0)).all()


def test_slices_of_a_patient_are_left_out_together():
    images, sizes, names = patients(30, 0, noise=1.0)
    alone, repeated = SizeCondition(MEASURES, grid=4), SizeCondition(MEASURES, grid=4)
    once = fit(alone, images, sizes, names)
    four = fit(repeated, images.repeat_interleave(4, 0), np.repeat(sizes, 4, 0), np.repeat(names, 4).tolist())
    np.testing.assert_allclose(four, once, rtol=0.15)


def test_sizes_are_drawn_in_float32_in_spite_of_autocast():
    condition, (images, _, _) = fitted(40), patients(5, 1)
    noise = torch.randn(5, 2)
    exact = condition.sizes_from(images, noise)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(condition.sizes_from(images, noise), exact)


def test_ranks_order_the_first_measure():
    condition = fitted()
    images = patients(1, 5)[0].repeat(3, 1, 1, 1)
    drawn = condition.draw(images, [torch.Generator() for _ in range(3)], [0.0, 0.5, 0.999])
    assert drawn[0, 0] < drawn[1, 0] < drawn[2, 0]
    deviation = float((drawn[2, 0] - drawn[1, 0]) / condition.factor[0, 0])
    assert deviation == pytest.approx(3.09, abs=0.01)


@pytest.mark.parametrize("stored", [None, torch.tensor(0.6)])
def test_weights_from_before_the_response_was_measured_still_load(stored: Tensor | None):
    weights = fitted().state_dict()
    del weights["response"], weights["offset"]
    if stored is not None:
        weights["response"] = stored
    loaded = SizeCondition(MEASURES, grid=4)
    loaded.load_state_dict(weights)
    assert loaded.response.tolist() == pytest.approx([1.0 if stored is None else 0.6, 1.0])
    assert loaded.offset.tolist() == [0, 0]
    assert torch.equal(loaded.weights, weights["weights"])


@pytest.mark.parametrize(("ratio", "factor"), [(0.8, 1.25), (0.2, 2)])
def test_a_weak_response_is_compensated_in_the_first_measure(ratio: float, factor: float):
    condition, images = fitted(), patients(50, 5)[0]

    def deviations() -> Tensor:
        generators = [torch.Generator().manual_seed(index) for index in range(50)]
        center = condition.inputs(images) @ condition.weights.mT + condition.bias
        return condition.draw(images, generators) - center

    before = deviations()
    condition.fit_response(ratio)
    torch.testing.assert_close(deviations(), before * torch.tensor([factor, 1.0]))


@pytest.mark.parametrize(("offset", "shift"), [(-0.2, 0.25), (0.1, -0.125), (-7.0, 1.25)])
def test_heights_are_shifted_by_what_the_images_miss(offset: float, shift: float):
    condition, images = fitted(), patients(50, 5)[0]
    noise = torch.randn(50, 2)
    condition.fit_response(0.8)
    before = condition.sizes_from(images, noise)
    condition.fit_response(0.8, offset)
    expected = torch.tensor([shift, 0.0]).expand(50, 2)
    torch.testing.assert_close(condition.sizes_from(images, noise) - before, expected, atol=1e-5, rtol=0)


def test_an_image_unlike_all_others_gets_no_absurd_sizes():
    drawn = fitted().draw(torch.full((1, 1, 32, 32), 1e4), [torch.Generator()], [0.5])
    assert drawn.abs().max() < 6


def test_true_sizes_are_standardised_and_unknown_ones_are_the_mean():
    condition = fitted()
    _, sizes, _ = patients(200, 0)
    standardized = condition.standardize(torch.from_numpy(sizes).float())
    torch.testing.assert_close(standardized.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardized.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert condition.standardize(torch.tensor([[torch.nan, 0.2]]))[0, 0] == 0


@pytest.mark.parametrize("bones", [0, 1])
def test_without_bone_to_learn_from_the_condition_is_0(bones: int):
    images, sizes, names = patients(20, 0)
    sizes[bones:] = np.nan
    condition = SizeCondition(MEASURES, grid=4)
    assert not fit(condition, images, sizes, names).any()
    assert condition.fitted
    assert not condition.draw(images, [torch.Generator() for _ in images]).any()


def test_rows_without_bone_do_not_matter():
    images, sizes, names = patients(60, 0)
    condition, with_gaps = SizeCondition(MEASURES, grid=4), SizeCondition(MEASURES, grid=4)
    fit(condition, images, sizes, names)
    gaps = np.concatenate([sizes, np.full((20, 2), np.nan)])
    fit(with_gaps, torch.cat([images, 9 + images[:20]]), gaps, [*names, *"abcdefghijklmnopqrst"])
    torch.testing.assert_close(with_gaps.weights, condition.weights)


def test_one_measure_is_enough():
    images, sizes, names = patients(60, 0)
    condition = SizeCondition(("height",), grid=4)
    assert fit(condition, images, sizes[:, :1], names).shape == (1,)
    assert condition.draw(images, [torch.Generator() for _ in images]).shape == (60, 1)


def test_maps_have_one_value_everywhere():
    maps = SizeCondition(MEASURES, grid=4).maps(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 4, 8, 6))
    assert maps.shape == (1, 2, 8, 6)
    assert (maps[0, 0] == 1).all()
    assert (maps[0, 1] == 2).all()
