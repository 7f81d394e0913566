"""Settings of the benchmark's suites, small enough for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir

from pti.benchmark.__main__ import build
from pti.benchmark.settings import SuiteSettings
from pti.common.conf_dir import CONF_DIR


@contextmanager
def small_settings(scratch: Path, **settings: Any) -> Iterator[SuiteSettings]:
    """Settings of 32-pixel images on the CPU; experiments can be built inside."""
    small = {"accelerator": "cpu", "images": 8, "image_size": 32, "batch_size": 1, "steps": 1}
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield SuiteSettings(scratch, build, **(small | settings))
