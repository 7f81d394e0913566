"""The console script lists the verbs without heavy imports and suggests the nearest one."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import pti
from pti.__main__ import VERBS


def run(*arguments: str) -> subprocess.CompletedProcess:
    code = "import sys; from pti.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_lists_the_verbs_without_torch():
    done = run()
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stdout.strip().endswith("False")


def test_names_the_nearest_verb():
    done = run("trian")
    assert done.returncode == 2
    assert "Did you mean train?" in done.stderr


def test_passes_on_to_the_verb():
    done = run("check", "data.rot=x")
    assert done.returncode == 2
    assert "Did you mean data.root?" in done.stderr


def test_prints_its_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"pti {version('pti')}\n")
    assert done.stdout.strip().endswith("False")


def test_the_package_knows_its_version():
    assert pti.__version__ == version("pti")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pti.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("verb", "encoding"), [*((verb, "ascii") for verb in (*VERBS, None)), (None, "cp1252"), (None, "latin-1")]
)
def test_help_in_any_encoding(verb, encoding):
    command = [sys.executable, "-m", "pti", *([verb] if verb else []), "--help"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    done.stdout.decode(encoding)
