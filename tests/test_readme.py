"""The README is correct: every setting, link and name in it exists."""

import functools
import re
import shlex

import pytest
from hydra import compose, initialize_config_dir

from helpers.readme_text import README, REPOSITORY, commands, table
from pti.__main__ import VERBS
from pti.cli.overrides import check_command_line
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError

SETTING = r"'?[\w./@]+=(?:\[[^\s`]+\]|[^\s`,]+)'?"
SETTINGS = sorted(set(re.findall(rf"`({SETTING}(?: {SETTING})*)`", README)))
OPTIONS = re.findall(r"`([\w/]+)=\w+`((?:,\s`\w+`)*\s+or\s+`\w+`)", README)
TRAININGS = ("vae_baseline", "ldm_baseline")
LINKS = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith(("http", "#"))]
MAKE = sorted({line.split()[1] for line in commands(README) if line.startswith("make ")})


def test_the_patterns_find_settings_options_links_and_targets():
    assert len(SETTINGS) >= 20
    assert len(OPTIONS) >= 3
    assert len(LINKS) >= 4
    assert len(MAKE) >= 2


@functools.cache
def keys_of(verb: str) -> list[str]:
    """List the top-level keys and groups of a verb's configuration."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return list(compose(verb, ["model=adversarial_vae"] if verb == "train" else []))


@pytest.mark.parametrize("settings", SETTINGS)
def test_keys_and_options(settings):
    typed = [setting for setting in shlex.split(settings) if not setting.startswith("experiment=")]
    trainings = re.findall(r"experiment=(\w+)", settings) or TRAININGS
    first = re.split("[./=]", (typed or settings.split())[0])[0]
    lines = [("train", [f"experiment={name}", *typed]) for name in trainings if first in keys_of("train")]
    lines += [(verb, typed) for verb in VERBS if verb != "train" and first in keys_of(verb)]
    refusals = [f"{first}: no command has such a key"]
    for verb, arguments in lines:
        try:
            assert check_command_line(verb, arguments).overridden
            return
        except UsageError as error:
            refusals.append(str(error))
    pytest.fail("\n".join(refusals))


@pytest.mark.parametrize(("group", "options"), OPTIONS)
def test_further_options_of_a_group(group, options):
    for option in re.findall(r"\w+(?=`)", options):
        assert (CONF_DIR / group / f"{option}.yaml").is_file(), f"{group}={option}"


@pytest.mark.parametrize(("verb", "keys"), [(row[0].strip("`"), row[2]) for row in table("command")])
def test_the_keys_that_the_table_of_commands_names(verb, keys):
    options = {
        "experiment": "smoke",
        "trainer": "cpu",
        "sampler": "ddim",
        "seed": "0",
        "space": "vae",
        "jobs": "1",
    }
    named = re.findall(r"([\w.]+)=", keys)
    typed = [f"{key}={options.get(key, 'null')}" for key in named]
    assert check_command_line(verb, typed).overridden == named


def test_the_tables_of_commands_and_experiments_are_complete():
    experiments = {path.stem for path in (REPOSITORY / "conf" / "experiment").glob("*.yaml")}
    for head, names in (("command", set(VERBS)), ("experiment", experiments)):
        assert sorted(row[0] for row in table(head)) == sorted(f"`{name}`" for name in names)


@pytest.mark.parametrize("link", LINKS)
def test_links_and_pictures_exist(link):
    assert (REPOSITORY / link.split("#")[0]).exists()


@pytest.mark.parametrize("target", MAKE)
def test_make_has_the_target(target):
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def test_extras_that_are_named_exist_under_a_name_that_every_pip_finds():
    section = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    section = section.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
    assert not [name for name in extras if "_" in name]
    source = REPOSITORY / "src" / "pti"
    files = [REPOSITORY / "README.md", *(path for path in source.rglob("*") if path.suffix in (".py", ".md"))]
    named = {
        name for path in files for name in re.findall(r"pti\[([\w-]+)\]", path.read_text(encoding="utf-8"))
    }
    assert {"explore", "slurm"} <= named <= extras
