"""Detail transfer: the condition where nothing has changed, the decoder's image where all has."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pti.data.normalization import RangeNormalization
from pti.networks.detail_transfer import DetailTransfer

SIDE = 48


def image(seed: int) -> Tensor:
    return torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_the_condition_itself_where_the_translation_changes_nothing():
    condition, known = image(0), image(1)
    found = DetailTransfer()(known, condition, known)
    torch.testing.assert_close(found, condition, rtol=0, atol=1e-6)


def test_the_decoders_image_where_everything_has_changed():
    condition, known = image(0), image(1)
    translated = known + 1.5
    torch.testing.assert_close(DetailTransfer()(translated, condition, known), translated, rtol=0, atol=1e-6)


@pytest.mark.parametrize("by_region", [False, True])
def test_each_region_for_itself(by_region: bool):
    condition, known = image(0), image(1)
    translated = known.clone()
    translated[..., : SIDE // 2] += 1.5
    found = DetailTransfer(sigma=2.0, by_region=by_region)(translated, condition, known)
    reach = 14  # change and edge of the gate are blurred up to 3 sigma, and the region is 1 pixel wider
    torch.testing.assert_close(found[..., SIDE // 2 + reach :], condition[..., SIDE // 2 + reach :])
    torch.testing.assert_close(found[..., : SIDE // 2 - reach], translated[..., : SIDE // 2 - reach])


def test_the_gate_falls_as_stated():
    known, transfer = image(0), DetailTransfer(tolerance=0.2)
    for change in (0.0, 0.1, 0.2, 0.4):
        gate = transfer.gate(known + change, known)
        torch.testing.assert_close(
            gate, torch.full_like(gate, (-((change / 0.2) ** 2))).exp(), rtol=1e-4, atol=0
        )


def test_the_gate_closes_above_the_tolerance():
    known, transfer = image(0), DetailTransfer(tolerance=0.2, by_region=True)
    for change, expected in {0.0: 1.0, 0.19: 1.0, 0.21: 0.0}.items():
        gate = transfer.gate(known + change, known)
        torch.testing.assert_close(gate, torch.full_like(gate, expected))


@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_gate_stays_closed_where_the_two_agree_within_a_change(size: int):
    """A lost root, whose rim both images show: it isn't put back, whatever the size of the images."""
    known = torch.zeros(1, 1, size, size)
    rows, columns = torch.meshgrid(*[(torch.arange(size) + 0.5) / size - 0.5] * 2, indexing="ij")
    radius = (rows**2 + columns**2).sqrt()
    rim = (radius - 0.15).abs() < 0.03
    translated = torch.where((radius < 0.25) & ~rim, 1.0, known)
    gate = DetailTransfer(sigma=size / 64, by_region=True).gate(translated, known)
    assert (gate[0, 0, rim] == 0).all()
    assert (gate[0, 0, radius < 0.24] == 0).all()
    assert (gate[0, 0, radius > 0.4] > 0.99).all()


def test_background_that_stays_comes_back_as_exactly_0():
    """The decoder's background is never exactly -1; no pixel is lifted over the edge."""
    normalization = RangeNormalization()
    raw = torch.zeros(1, 1, SIDE, SIDE)
    raw[..., 16:32, 16:32] = 500 + 100 * image(3)[:1, :, 16:32, 16:32]
    normalization.fit([raw[0, 0].numpy()])
    statistics = normalization.statistics(raw)
    condition = normalization.normalize(raw, statistics)
    known = condition + 0.05 * image(4)[:1]
    found = normalization.denormalize(DetailTransfer()(known + 0.01, condition, known), statistics)
    assert torch.equal(found == 0, raw == 0)


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"sigma": -1.0}])
def test_impossible_settings_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="greater than 0"):
        DetailTransfer(**options)
