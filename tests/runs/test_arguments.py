"""The command line as it was typed."""

import sys

from pti.runs.arguments import replace_arguments, typed_arguments


def test_arguments_of_the_program_are_not_typed_ones(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pti", "data.root=my images"])
    replace_arguments(["data.root='my images'", "hydra.run.dir=run"])
    assert sys.argv == ["pti", "data.root='my images'", "hydra.run.dir=run"]
    assert typed_arguments() == ["data.root=my images"]


def test_another_command_line_is_its_own(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pti", "seed=1"])
    replace_arguments(["seed=1", "hydra.run.dir=run"])
    monkeypatch.setattr("sys.argv", ["pti train", "seed=2"])  # as in the process of a device
    assert typed_arguments() == ["seed=2"]
