"""One of several training processes."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.training_setup import environment

PROGRAM = """
import sys, types
run = types.ModuleType("pti.train.run")
run.train_from_file = lambda config, folder: print("données ✓ \\udce4") or 0
sys.modules["pti.train.run"] = run
from pti.train.rank import main
main()
"""


def test_it_prints_names_that_the_output_lacks_as_escapes(tmp_path: Path):
    settings = {"PYTHONIOENCODING": "ascii", "LOCAL_RANK": "1", "PTI_LAUNCHER": str(os.getpid())}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "config.yaml", str(tmp_path)],
        env=environment(**settings),
        capture_output=True,
        timeout=120,
    )
    assert done.stdout == rb"donn\xe9es \u2713 \udce4" + os.linesep.encode(), done.stderr
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())  # no failure
