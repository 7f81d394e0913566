"""Protocols that are checked at run time, by the rules of every supported Python."""

import inspect

import pytest
from torch import nn
from typing_extensions import get_protocol_members

from pti.modules.latent_diffusion import LatentDiffusion
from pti.modules.protocols import SizePredictor, Translator, is_autoencoder
from pti.modules.regression import LatentRegression, Regression
from pti.modules.sizes import LatentSizes, PixelSizes


@pytest.mark.parametrize(
    ("protocol", "module"),
    [
        *((Translator, module) for module in (LatentDiffusion, Regression, LatentRegression)),
        *((SizePredictor, module) for module in (PixelSizes, LatentSizes)),
    ],
)
def test_isinstance_sees_all_members(protocol: type, module: type[nn.Module]):
    """Since Python 3.12, isinstance finds what is in a class or an instance, but no submodule."""
    members = get_protocol_members(protocol) - {"measures"}  # in the instance
    assert "normalization" in members
    assert not [name for name in members if inspect.getattr_static(module, name, None) is None]


def test_an_autoencoder_may_keep_its_normalization_as_a_submodule():
    class Both(nn.Module):
        encode = decode = print

        def __init__(self) -> None:
            super().__init__()
            self.normalization = nn.Identity()

    assert is_autoencoder(Both())
    assert not is_autoencoder(nn.Identity())
