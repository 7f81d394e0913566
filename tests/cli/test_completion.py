"""Completion of command lines, asked for directly and by a shell."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.training_setup import environment
from pti.__main__ import VERBS
from pti.cli.completion import complete

PROGRAM = f"{sys.executable} -m pti"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pti tr", ["train", "translate"]),
        ("pti train experiment=sm", ["experiment=smoke", "experiment=smoke_ldm"]),
        ("pti train exp", ["experiment="]),
        ("pti train experiment=smoke model.kl", ["model.kl_weight="]),
        ("pti train experiment=smoke model/pa", ["model/path="]),
        ("pti train experiment=smoke mod", ["model.", "model="]),
        ("pti train experiment=typo see", ["seed="]),
        ("pti translate sampler=d", ["sampler=ddim", "sampler=ddpm", "sampler=dpm_solver"]),
        ("pti train data.root=", []),
        ("pti train --mul", ["--multirun"]),
        ("pti completion ", ["bash", "zsh"]),
        ("pti typo see", []),
    ],
)
def test_words_that_continue_a_line(line: str, words: list[str]):
    found = complete(line, VERBS)
    assert [word for word in found if "/" not in word or "/" in line] == words


def test_the_groups_of_a_verb_are_its_own():
    assert "sampler=" in complete("pti translate ", VERBS)
    assert "experiment=" not in complete("pti translate ", VERBS)
    assert not [word for word in complete("pti train ", VERBS) if word.startswith("hydra")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("breaks", [" =", " "])
def test_bash(breaks: str):
    """A shell that ends words at ``=`` gets what follows it, another one the whole word."""
    script = f"""
        pti() {{ {PROGRAM} "$@"; }}
        eval "$(pti completion bash)"
        COMP_WORDBREAKS="{breaks}" COMP_LINE="pti train experiment=smoke_" COMP_POINT=27
        _pti
        printf "%s|" "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == ("smoke_ldm|" if "=" in breaks else "experiment=smoke_ldm|")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("pti tran", "pti translate"),
        ("pti train experiment=smoke_", "smoke_ldm"),
        ("pti train data.root=fol", "folder/"),
    ],
)
def test_zsh(tmp_path: Path, typed: str, completed: str):
    """A shell in a terminal completes verbs, options and, where there are none, files."""
    (tmp_path / "folder").mkdir()
    (tmp_path / ".zshrc").write_text(
        f'pti() {{ {PROGRAM} "$@" }}\neval "$(pti completion zsh)"\nPS1="ready>"\n'
    )
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-i"], environment() | {"ZDOTDIR": str(tmp_path), "TERM": "dumb"})
    try:
        _wait_for(terminal, "ready>")
        os.write(terminal, f"{typed}\t".encode())
        _wait_for(terminal, completed.removeprefix(typed))
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def _wait_for(terminal: int, text: str) -> None:
    shown, end = "", time.monotonic() + 60
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4096).decode()


def test_another_shell_is_refused():
    done = subprocess.run(
        [*PROGRAM.split(), "completion", "tcsh"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pti completion bash" in done.stderr
