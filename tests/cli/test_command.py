"""Shared behaviour of the commands, tested on a small one; it runs in separate processes unless refused."""

import functools
import runpy
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from helpers.forks import ForkServer, environment
from helpers.in_process import Done, run_command

SCRIPT = """
import sys
from pathlib import Path
import pti.common.conf_dir
pti.common.conf_dir.CONF_DIR = Path(r"{conf}")
from pti.cli.command import command
from pti.common.errors import DataError, UsageError

def preflight(config):
    if config.size > 100:
        raise UsageError(f"size={{config.size}}: expected at most 100. Set a smaller one.")

@command("toy", preflight=preflight)
def main(config, output_dir):
    import json
    print(json.dumps({{"size": config.size, "weight": config.model.weight, "out": str(output_dir)}}))
    if config.mode == "data":
        raise DataError("file.tif: found nothing, expected an image. Mend it.")
    if config.mode == "bug":
        raise RuntimeError("a bug")
    if config.mode == "ctrl-c":
        raise KeyboardInterrupt
    assert "torch" not in sys.modules

main()
"""


@pytest.fixture
def toy(tmp_path):
    """Write the command and its configuration; return its file."""
    conf = tmp_path / "conf"
    repository = Path(__file__).parents[2] / "conf" / "hydra"
    for path in repository.rglob("*.yaml"):
        copy = conf / "hydra" / path.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (conf / "model").mkdir()
    (conf / "model" / "small.yaml").write_text("weight: 1.0e-6\nlayers: [1, 2]\nflag: false\n")
    (conf / "model" / "large.yaml").write_text("weight: 1.0\nlayers: [3, 4]\nflag: true\nheads: 8\n")
    (conf / "data").mkdir()  # a group that this command doesn't choose from
    (conf / "data" / "other.yaml").write_text("root: elsewhere\n")
    (conf / "toy.yaml").write_text(
        dedent(f"""
        defaults: [hydra: default, model: small, _self_]
        size: 3
        mode: ok
        data: {{root: here}}
        output_dir: {tmp_path}/out
        """)
    )
    (tmp_path / "toy.py").write_text(SCRIPT.format(conf=conf))
    return tmp_path / "toy.py"


@pytest.fixture(scope="module")
def server():
    """A process that has imported what every command does, without torch."""
    with ForkServer(environment(), ["pti.cli.command"]) as server:
        yield server


@pytest.fixture
def run(toy, server):
    """Run the command in a separate process; return the exit code and the output."""

    def call(*arguments: str) -> tuple[int, str]:
        with server.start(toy.parent, toy.stem, *arguments, environment=environment()) as process:
            output, _ = process.communicate(timeout=60)
        return process.wait(), output

    return call


@pytest.fixture
def refused(toy, monkeypatch):
    """Run the command in this process; it has to end with exit code 2 before it imports anything."""
    monkeypatch.setattr("pti.common.conf_dir.CONF_DIR", toy.parent / "conf")  # which the command changes

    def call(*arguments: str) -> Done:
        return run_command(functools.partial(runpy.run_path, str(toy)), toy.parent, *arguments, code=2)

    return call


def test_runs_with_the_given_values(run, tmp_path):
    code, output = run("size=4", "model=large")
    assert code == 0, output
    assert '"size": 4, "weight": 1.0' in output
    assert f"{tmp_path}/out" in output


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("sizze=4", "Did you mean size?"),
        ("weight=1", "Did you mean model.weight?"),
        ("model.wieght=1", "Did you mean model.weight?"),
        ("model=lagre", "Did you mean large?"),
        ("size=four", "expected a whole number"),
        ("size=4.5", "expected a whole number"),
        ("model.weight=heavy", "expected a number"),
        ("model.flag=2", "expected true or false"),
        ("model.layers=5", "expected a list"),
        ("model.heads=2", "there is no such key"),
        ("size", "expected key=value"),
        ("size=1000", "expected at most 100"),
        ("model.weight=[1", "could not be read"),
        ("data=other", "no such choice. It has data.root"),
        ("model=null", "expected an option"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(refused, argument, named):
    done = refused(argument)
    assert named in done.stderr
    assert argument.split("=")[0] in done.stderr


def test_an_integer_may_stand_for_a_float(run):
    code, output = run("model.weight=2")
    assert code == 0, output


@pytest.mark.parametrize(("mode", "code"), [("data", 1), ("bug", 1), ("ctrl-c", 130)])
def test_exit_codes(run, mode, code):
    found, output = run(f"mode={mode}")
    assert found == code, output
    assert ("Traceback" in output) == (mode == "bug")


def test_a_failed_job_does_not_stop_a_sweep_and_is_not_forgotten(run, tmp_path):
    code, output = run("-m", "size=1,2", "mode=data,ok", f"hydra.sweep.dir={tmp_path}/sweep")
    assert output.count('"size": 1') == 2
    assert output.count('"size": 2') == 2
    assert code == 1


def test_a_mistake_in_any_job_of_a_sweep_is_found_before_the_first(refused):
    done = refused("-m", "size=1,1000")
    assert '"size"' not in done.stdout


def test_ctrl_c_ends_a_sweep(run, tmp_path):
    code, output = run("-m", "size=1,2", "mode=ctrl-c", f"hydra.sweep.dir={tmp_path}/sweep")
    assert code == 130
    assert '"size": 2' not in output


def test_help_lists_groups_and_keys(run):
    code, output = run("--help")
    assert code == 0
    assert "size: 3" in output
    assert "model: large, small" in output


def test_help_is_the_text_that_hydra_prints(run):
    own, hydra = run("--help", "model=large"), run("-m", "--help", "model=large")
    assert own == hydra
    assert "heads: 8" in own[1]


def test_an_output_folder_that_cannot_be_created_is_one_message(run, tmp_path):
    (tmp_path / "file").write_text("no folder")
    code, output = run(f"output_dir={tmp_path}/file/out")
    assert code == 1
    assert output.startswith(f"Error: output_dir={tmp_path}/file/out: can't be created")
    assert len(output.splitlines()) == 1
    assert run(f"output_dir={tmp_path}/file/out", "--help")[0] == 0


def test_a_deleted_working_directory_is_one_message(tmp_path):
    program = "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); import runpy, sys; "
    program += "sys.argv = ['translate']; runpy.run_module('pti.translate', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The working directory was deleted.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "argument", ["output_dir=", "data.root=", "mode=", "output_dir=''", "output_dir=a,''"]
)
def test_an_empty_value_is_refused(refused, argument, tmp_path):
    done = refused(*(["-m"] if "," in argument else []), argument)
    assert done.stderr.startswith(f"Error: {argument.split('=')[0]}= is empty, as an unset shell variable")
    assert not (tmp_path / ".hydra").exists()


def test_a_quoted_empty_text_is_a_text(run):
    code, output = run("mode=''")
    assert code == 0, output


def test_garbage_is_searched_rarely_and_not_once_more_at_the_end():
    program = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count()))\n"
        "sys.argv = ['measure', '--help']\n"
        "from pti.measure.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    threshold, frozen = done.stdout.split()[-2:]
    assert int(threshold) > 5000
    assert int(frozen) > 1000
