"""The console script lists the verbs without heavy imports and suggests the nearest one."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import pti
from helpers.forks import ForkServer, environment
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


@pytest.fixture(scope="module")
def ascii_server():
    """A process with a terminal of ASCII, which has imported what every command does."""
    with ForkServer(environment(PYTHONIOENCODING="ascii"), ["pti.cli.command"]) as server:
        yield server


@pytest.mark.parametrize("verb", VERBS)
def test_help_in_ascii(ascii_server, tmp_path, verb):
    with ascii_server.start(tmp_path, "pti", verb, "--help", environment=environment()) as process:
        output, _ = process.communicate(timeout=60)
    assert process.wait() == 0, output
    assert "output_dir" in output
    assert output.isascii()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_the_list_of_verbs_in_any_encoding(encoding):
    command = [sys.executable, "-m", "pti", "--help"]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False
    )
    assert done.returncode == 0, done.stderr
    done.stdout.decode(encoding)
