"""The house plan, held by reading the imports: who may know whom."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pti"
FILES = sorted(SOURCE.rglob("*.py"))
NOUN_FOLDERS = ("diffusion", "data", "metrics", "analysis", "report")
NOUN_FILES = (
    *("losses.py", "errors.py", "progress.py", "summary.py", "config.py"),
    *("randomness.py", "runs.py", "sweep.py", "manifest.py", "story.py", "parallel.py"),
)


def layer(path: Path) -> str:
    first, *below = path.relative_to(SOURCE).parts
    if below:
        return "noun" if first in NOUN_FOLDERS else first
    if first in NOUN_FILES:
        return "noun"
    return "checkpoint" if first == "checkpoint.py" else "verb"


def imports(path: Path) -> set[str]:
    """Every module that the file imports, and every name it takes from one (``a.b`` and ``a.b.c``)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import absolutely"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def uses(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_hydra_and_lightning_stay_in_their_layers(path):
    if layer(path) in ("noun", "networks", "modules"):
        assert not uses(path, "hydra")
        assert not uses(path, "omegaconf")
    if layer(path) in ("noun", "networks"):
        assert not uses(path, "lightning")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    below = {"noun": ("noun",), "networks": ("noun", "networks"), "modules": ("noun", "networks", "modules")}
    allowed = below.get(layer(path))
    if allowed is None:
        return
    for other in FILES:
        name = ".".join(["pti", *other.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        if name != "pti" and name in imports(path):
            assert layer(other) in allowed, f"{path} imports {name}"


def verbs() -> list[Path]:
    return [path for path in FILES if "@command(" in path.read_text() and path.name != "cli.py"]


@pytest.mark.parametrize("path", verbs(), ids=lambda path: path.stem)
def test_verbs_import_nothing_heavy_before_they_run(path):
    heavy = {"torch", "lightning", "monai", "numpy", "scipy", "matplotlib", "tifffile"}
    tree = ast.parse(path.read_text())
    at_the_top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in at_the_top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in at_the_top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & heavy


def test_every_verb_is_listed():
    from pti.__main__ import VERBS

    assert sorted(VERBS) == sorted(path.stem for path in verbs())
    assert all((SOURCE.parents[1] / "conf" / f"{verb}.yaml").is_file() for verb in VERBS)
