"""The maintainers' pages: links, tables and commands agree with the code and the configuration."""

import re
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from helpers.readme_text import REPOSITORY, code_blocks, commands, table, verb_and_arguments
from pti.cli.overrides import check_command_line
from pti.common.conf_dir import CONF_DIR
from pti.runs.constructors import CONSTRUCTORS
from test_architecture import COMMAND_LEVEL, LEVELS

PAGES = sorted(
    path
    for folder in ("src", "conf", "notebooks", ".github")
    for path in (REPOSITORY / folder).rglob("*.md")
    if "node_modules" not in path.parts
)
CONF = (CONF_DIR / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (REPOSITORY / "src" / "pti" / "README.md").read_text(encoding="utf-8")
LINES = [line for line in commands(CONF) if verb_and_arguments(line) and "VERB" not in line]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_pages_that_the_readme_promises_are_there():
    names = {path.relative_to(REPOSITORY).as_posix() for path in PAGES}
    assert {
        "src/pti/README.md",
        "src/pti/data/README.md",
        "src/pti/inference/README.md",
        "src/pti/modules/README.md",
        "conf/README.md",
    } <= names
    assert {f".github/{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")} <= names


def test_the_table_of_levels_is_that_of_the_architecture():
    rows = table("level", ARCHITECTURE)
    shown = [set(re.findall(r"`(\w+)`", row[1])) for row in rows[:COMMAND_LEVEL]]
    assert shown == [set(parts) for parts in LEVELS]
    assert rows[COMMAND_LEVEL][:2] == ["7", "the commands"]


def test_the_table_of_groups_is_whole():
    groups = {
        folder.relative_to(CONF_DIR).as_posix(): {path.stem for path in folder.glob("*.yaml")}
        for folder in CONF_DIR.rglob("*")
        if any(folder.glob("*.yaml")) and folder.relative_to(CONF_DIR).parts[0] not in ("hydra", "local")
    }
    shown = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table("group", CONF)}
    assert shown.keys() == groups.keys()
    assert {group: options for group, options in shown.items() if options} == {
        group: options for group, options in groups.items() if group != "experiment"
    }


def test_the_table_of_groups_counts_experiments():
    (row,) = (row for row in table("group", CONF) if row[0] == "`experiment`")
    assert row[1].startswith(f"{len(list((CONF_DIR / 'experiment').glob('*.yaml')))} files")


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_configuration_page(line: str):
    parsed = verb_and_arguments(line)
    assert parsed is not None
    check_command_line(*parsed)


def test_the_experiment_of_the_configuration_page(tmp_path: Path):
    ((_, text),) = (block for block in code_blocks(CONF) if block[0] == "yaml")
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    (conf / "experiment" / "ldm_cosine.yaml").write_text(text)
    with initialize_config_dir(str(conf), version_base="1.3"):
        model = compose("train", ["experiment=ldm_cosine"]).model
    assert model.path._target_ == "pti.diffusion.paths.Cosine"
    assert model.optimizer.lr == 5e-5


def test_what_pages_name_in_the_code_exists():
    source = REPOSITORY / "src" / "pti"
    text = "\n".join(path.read_text() for path in source.rglob("*.py"))
    for page in (source / "README.md", *(source / part / "README.md" for part in ("modules", "inference"))):
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for name in re.findall(r"`((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)`", prose):
            last = name.split(".")[-1]
            assert re.search(rf"\b{last}\b", text) or list(source.rglob(name)), f"{page.name}: {name}"


def test_constructors_are_those_of_the_configuration():
    targets = {
        target
        for folder in ("model", "data/layout")
        for path in (CONF_DIR / folder).rglob("*.yaml")
        for target in re.findall(r"^\s*_target_: (\S+)", path.read_text(), re.MULTILINE)
        if "perceptual" not in target
    }
    assert targets <= CONSTRUCTORS
