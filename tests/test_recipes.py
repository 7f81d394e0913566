"""The recipes of src/pti/README.md, followed literally in a copy of the package and the configuration."""

import ast
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helpers.forks import LIBRARIES, PACKAGE, ForkServer
from helpers.in_process import rows
from helpers.readme_text import REPOSITORY, code_blocks, verb_and_arguments
from pti.data import tif

PAGE = (REPOSITORY / "src" / "pti" / "README.md").read_text(encoding="utf-8")


@dataclass
class Recipe:
    """The blocks of one recipe: changes of files, then commands."""

    title: str
    changes: list[tuple[str, str, str]] = field(default_factory=list)  # language, file, text
    commands: list[list[str]] = field(default_factory=list)


def recipes() -> Iterator[Recipe]:
    chapter = PAGE.split("\n## Recipes\n")[1].split("\n## ")[0]
    for section in chapter.split("\n### ")[1:]:
        recipe = Recipe(section.splitlines()[0])
        for language, text in code_blocks(section):
            if language == "bash":
                for line in text.splitlines():
                    command = verb_and_arguments(line)
                    assert command is not None, line
                    recipe.commands.append([f"pti.{command[0]}", *command[1]])
            else:
                first, body = text.split("\n", 1)
                recipe.changes.append((language, first.removeprefix("# "), body))
        yield recipe


RECIPES = {recipe.title: recipe for recipe in recipes()}


def follow(recipe: Recipe, project: Path) -> list[Path]:
    """Make a recipe's changes below a copy of the project."""
    changed = []
    for language, name, text in recipe.changes:
        path = project / name
        if language == "diff":
            path.write_text(patched(path.read_text(), text))
        elif language == "python":
            path.write_text(f"{path.read_text()}\n\n{text}")
        else:
            assert not path.exists(), f"{name} exists already"
            path.write_text(text)
        changed.append(path)
    return changed


def patched(text: str, diff: str) -> str:
    """Apply a diff without line numbers: the lines of each hunk must occur exactly once."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"expected exactly once:\n{old}"
        text = text.replace(old, new)
    return text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the package and the configuration."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / "project" / name, ignore=ignored)
    return tmp_path / "project"


def test_the_page_has_the_recipes():
    assert list(RECIPES) == [f"Add a {what}" for what in ("loss", "path", "sampler", "metric", "layout")]
    assert all(recipe.changes and recipe.commands for recipe in RECIPES.values())


def test_a_recipe_is_short():
    for recipe in RECIPES.values():
        for language, name, text in recipe.changes:
            assert len(text.splitlines()) <= 18, f"{recipe.title}: the {language} block for {name}"


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_fits_the_code(title: str, project: Path):
    for path in follow(RECIPES[title], project):
        if path.suffix == ".py":
            ast.parse(path.read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_recipes_work_in_order(project: Path, tmp_path: Path):
    for recipe in RECIPES.values():
        follow(recipe, project)
    folder = tmp_path / "work"
    folder.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    with ForkServer(variables, (*LIBRARIES, *PACKAGE)) as server:
        for title, recipe in RECIPES.items():
            if title == "Add a layout":
                by_patient(folder / "outputs" / "phantom_smoke", folder / "PATIENTS")
            for command in recipe.commands:
                with server.start(folder, *command, environment=variables) as running:
                    output, _ = running.communicate()
                assert running.returncode == 0, f"{title}: {' '.join(command)}\n{output}"
    outputs = folder / "outputs"
    assert "train/charbonnier" in rows(only(outputs, "smoke/*/metrics.csv"))[0]
    assert "pti.diffusion.paths.Trigonometric" in only(outputs, "smoke_ldm/*/config.yaml").read_text()
    assert "consistency" in only(outputs, "translate/*/summary.json").read_text()
    assert len(list(only(outputs, "translate/*/samples").iterdir())) >= 2
    summary = rows(only(outputs, "evaluate/*/summary.csv"))
    assert any("area_ratio" in row.values() for row in summary)
    assert (outputs / "patients" / "checkpoints" / "last.ckpt").is_file()


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def by_patient(paired: Path, root: Path) -> None:
    """Rearrange dente/NAME.tif and edente/NAME.tif as PATIENT/NAME_dente.tif and PATIENT/NAME_edente.tif."""
    for role in ("dente", "edente"):
        for path in (paired / role).glob("*.tif"):
            patient = root / path.stem.rsplit("_", 1)[1]
            patient.mkdir(parents=True, exist_ok=True)
            image = tif.read(path)
            tif.write(patient / f"{path.stem}_{role}.tif", image.pixels, image.pixel_mm)
