"""Every row whose protection is taken out fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.training_setup import environment


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_row_notices_that_its_protection_is_missing():
    command = [sys.executable, str(Path(__file__).with_name("mutations.py"))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" killed ") >= 15
