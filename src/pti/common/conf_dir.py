"""Location of the YAML configuration, in a checkout or an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_WHEEL = _PACKAGE / "conf"

CONF_DIR: Path = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parents[1] / "conf"
"""Absolute folder of the YAML configuration: ``pti/conf`` in a wheel, ``<repository>/conf`` in a checkout."""
