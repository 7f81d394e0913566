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


def test_each_region_for_itself():
    condition, known = image(0), image(1)
    translated = known.clone()
    translated[..., : SIDE // 2] += 1.5
    found = DetailTransfer(sigma=2.0)(translated, condition, known)
    reach = 7  # the window ends at 3 sigma
    torch.testing.assert_close(found[..., SIDE // 2 + reach :], condition[..., SIDE // 2 + reach :])
    torch.testing.assert_close(found[..., : SIDE // 2 - reach], translated[..., : SIDE // 2 - reach])


def test_the_gate_falls_as_stated():
    known, transfer = image(0), DetailTransfer(tolerance=0.2)
    for change in (0.0, 0.1, 0.2, 0.4):
        gate = transfer.gate(known + change, known)
        torch.testing.assert_close(
            gate, torch.full_like(gate, (-((change / 0.2) ** 2))).exp(), rtol=1e-4, atol=0
        )


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
