"""The layout of the package, read from its folders: levels, circles, commands, heavy imports.

A command is a folder with a ``__main__.py``. Every other folder, and every file beside them, is a noun at one
of the levels below; it may import its own level and lower ones. Commands import nouns, never each other.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pti"
LEVELS = (
    ("common",),
    ("metrics", "diffusion", "losses"),
    ("data", "drawing", "runs"),
    ("networks",),
    ("modules",),
    ("inference", "latent_study", "sweep"),
    ("cli",),
)
COMMAND_LEVEL = len(LEVELS)
ENTRIES = ("__init__", "__main__")  # of the package itself: above everything, imported lazily

CONFIGURATION_LIBRARIES = {"hydra", "omegaconf"}
MAY_USE_CONFIGURATION = ("cli/", "runs/checkpoint.py", "train/run.py")
MAY_USE_LIGHTNING = ("modules/", "train/", "benchmark/", "runs/checkpoint.py")
HEAVY = {"torch", "lightning", "monai", "numpy", "scipy", "matplotlib", "tifffile"}

FILES = sorted(SOURCE.rglob("*.py"))
COMMANDS = sorted(path.parent.name for path in SOURCE.glob("*/__main__.py"))


def name_of(path: Path) -> str:
    """A file's path inside the package."""
    return path.relative_to(SOURCE).as_posix()


def part_of(path: Path) -> str:
    """The folder or file directly below the package that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def level_of(part: str) -> int:
    if part in COMMANDS:
        return COMMAND_LEVEL
    return next((level for level, parts in enumerate(LEVELS) if part in parts), -1)


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, and every name it takes from one (``a.b`` and ``a.b.c``)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import absolutely"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@cache
def imported_files(path: Path) -> frozenset[Path]:
    modules = {".".join(["pti", *other.relative_to(SOURCE).with_suffix("").parts]): other for other in FILES}
    modules = {name.removesuffix(".__init__"): other for name, other in modules.items()}
    return frozenset(modules[name] for name in imports(path) if name in modules and modules[name] != path)


@pytest.mark.parametrize("part", sorted({part_of(path) for path in FILES} - set(ENTRIES)))
def test_every_part_is_a_command_or_has_a_level(part):
    assert level_of(part) >= 0, f"{part}: give it a level, or a __main__.py"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downwards(path):
    own = part_of(path)
    if own in ENTRIES:
        return
    for other in imported_files(path):
        theirs = part_of(other)
        if theirs in ("__init__", own):
            continue
        assert level_of(theirs) <= level_of(own), f"{name_of(path)} imports {name_of(other)}, a level above"
        assert theirs not in COMMANDS, f"{name_of(path)} imports the command {theirs}"


@pytest.mark.parametrize("by", ["file", "part"])
def test_there_is_no_import_circle(by):
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if by == "part" and part_of(path) in ENTRIES:
            continue
        node = name_of(path) if by == "file" else part_of(path)
        for other in imported_files(path):
            target = name_of(other) if by == "file" else part_of(other)
            if target != node and target not in ("__init__.py", "__init__"):
                graph.setdefault(node, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_libraries_stay_in_their_parts(path):
    name = name_of(path)
    if path.name != "__main__.py" and not name.startswith(MAY_USE_CONFIGURATION):
        assert not libraries(path) & CONFIGURATION_LIBRARIES
    if not name.startswith(MAY_USE_LIGHTNING):
        assert "lightning" not in libraries(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_import_nothing_heavy_before_they_run(command):
    tree = ast.parse((SOURCE / command / "__main__.py").read_text())
    at_the_top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in at_the_top if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in at_the_top if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & HEAVY


def test_every_command_is_listed_and_configured():
    from pti.__main__ import VERBS

    assert sorted(VERBS) == COMMANDS
    assert all((SOURCE.parents[1] / "conf" / f"{command}.yaml").is_file() for command in COMMANDS)
