"""Every row whose protection is taken out fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from faults.mutations import MUTATIONS, Mutation, mutated_source, row_of
from helpers.training_setup import environment


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_each_mutation_has_its_place_and_its_row(mutation: Mutation):
    assert mutated_source(mutation)
    assert row_of(mutation).number


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_row_notices_that_its_protection_is_missing():
    command = [sys.executable, str(Path(__file__).with_name("mutations.py"))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" killed ") >= 15
