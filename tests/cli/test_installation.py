"""A torchvision that doesn't fit torch ends in one message."""

import pytest

from pti.cli import installation
from pti.cli.installation import installation_error


def test_a_torchvision_for_another_torch_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "version", {"torchvision": "0.28.0", "torch": "2.13.0+cpu"}.__getitem__)
    error = ImportError("lightning")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    message = str(installation_error(error))
    assert message.startswith("torchvision 0.28.0 is built for another torch than 2.13.0+cpu")
    assert "pip uninstall torchvision" in message


def test_other_errors_are_left_alone():
    assert installation_error(RuntimeError("out of memory")) is None
