"""The page on the Python API is complete and correct: names, arguments, types, examples."""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.in_process import run_command
from helpers.public_api import CALLS, EXAMPLES, PAGE, PROSE, find, signature_text, untyped
from helpers.readme_text import REPOSITORY, table
from helpers.tiny_checkpoints import save_sizes, save_translator
from pti.data.phantom import make_phantom
from pti.evaluate.__main__ import main as evaluate
from pti.inference.api import Model
from pti.inference.evaluation_results import EvaluationResults


def members(of: str) -> dict[str, str | None]:
    """Return the rows of the table below a heading: name -> arguments, None for attributes."""
    section = PROSE.split(f"\n## {of}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`(?:, `\w+`)*) \|", section, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return {name.partition("(")[0]: name.partition("(")[2][:-1] if "(" in name else None for name in listed}


def public(owner: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(owner) if not name.startswith("_")}


def test_the_patterns_find_functions_and_examples():
    assert len(CALLS) >= 30
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[name for name, _ in CALLS])
def test_functions_have_the_listed_arguments_and_types(name: str, arguments: str):
    function = find(name)
    assert untyped(function) == []
    shown = signature_text(function)
    pattern = re.escape(arguments).replace("…", ".*")
    assert re.fullmatch(pattern, shown), f"{name}({shown})"


@pytest.mark.parametrize(
    ("owner", "heading"), [(Model, "A trained model"), (EvaluationResults, "Results of an evaluation")]
)
def test_members_are_listed_with_their_arguments_and_types(owner: type, heading: str):
    listed, own = members(heading), public(owner)
    own.pop("load", None)  # `pti.load`
    methods = {name: value for name, value in own.items() if inspect.isfunction(value)}
    assert {name for name, arguments in listed.items() if arguments is not None} == set(methods)
    for name, method in methods.items():
        assert signature_text(method) == listed[name], name
        assert untyped(method) == [], name
    documented = {line.split(":")[0].strip() for line in (owner.__doc__ or "").splitlines() if ": " in line}
    attributes = {name for name in documented if re.fullmatch(r"[a-z]\w*", name)}
    properties = set(own) - set(methods)
    assert {name for name, arguments in listed.items() if arguments is None} == attributes | properties


def test_every_file_of_the_folder_is_listed():
    rows = table("file", PAGE)
    listed = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[0])}
    folder = REPOSITORY / "src" / "pti" / "inference"
    assert listed == {path.name for path in folder.glob("*.py")} - {"__init__.py"}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Create a data set, two models and an evaluation below ``outputs``, as the commands do."""
    make_phantom(tmp_path / "DATA", patients=10, slices=1, image_size=64, seed=1)
    for experiment, save in (("ldm_demo", save_translator), ("sizes", save_sizes)):
        run = tmp_path / "outputs" / experiment / "2026-01-02_03-04-05" / "checkpoints"
        run.mkdir(parents=True)
        save(run / "best.ckpt", tmp_path / "DATA")
    small = ["split=train", "samples=2", "distributions=false", "output_dir=outputs/evaluation"]
    run_command(evaluate, tmp_path, "ckpt=best:ldm_demo", *small)
    return tmp_path


@pytest.mark.slow
def test_the_examples_work_in_their_order(workplace: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(workplace)
    try:
        for example in EXAMPLES:
            exec(example, names)
    finally:
        os.chdir(before)
    assert names["samples"].shape == (8, 64, 64)
    assert names["quick"].shape == (1, 64, 64)
    assert names["halfway"].shape == (1, 32, 32)
    assert names["after"].pixels.shape == (64, 64)
    assert np.isfinite(names["components"].scores).all()
    assert (workplace / "translation.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "mm, 90 %:" in printed
    assert "nan" not in printed
