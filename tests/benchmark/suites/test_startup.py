"""Commands that are timed run, and a failing one is reported."""

import sys
from pathlib import Path

import pytest

from helpers.benchmark_setup import small_settings
from pti.benchmark.suites.startup import _run, startup_suite


def test_a_failing_command_is_reported():
    with pytest.raises(RuntimeError, match="what happened"):
        _run([sys.executable, "-c", "raise ValueError('what happened')"])


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path):
    with small_settings(tmp_path) as settings:
        for comparison in startup_suite(settings):
            for side in comparison.sides:
                work = side.build()
                assert work.command is not None
                work.run()
                work.run()  # in another folder
