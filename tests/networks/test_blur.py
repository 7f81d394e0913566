"""The blur is SciPy's, at the borders too."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pti.networks.blur import blur


@pytest.mark.parametrize(("mode", "in_scipy"), [("replicate", "nearest"), ("constant", "constant")])
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_it_equals_scipy(mode: str, in_scipy: str, sigma: float):
    image = np.random.default_rng(0).normal(size=(20, 31))
    blurred = blur(torch.from_numpy(image)[None, None], sigma, mode)
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(image, sigma, mode=in_scipy, radius=radius)
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, atol=1e-12)
