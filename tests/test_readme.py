"""What the README tells people to type is right: every command, key and option in it exists."""

import re
import shlex
from pathlib import Path

import pytest

from pti.__main__ import VERBS
from pti.errors import UsageError
from pti.overrides import check_command_line

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m pti\.(\w+) ([^`\n#]*)", README)))
SETTING = r"'?[\w./@]+=[^\s`,]+'?"
SETTINGS = sorted(set(re.findall(rf"`({SETTING}(?: {SETTING})*)`", README)))
OF_THE_VERBS = (
    "method=",
    "max_images=",
    "color_by=",
    "n_neighbors=",
    "subtitle=",
    "port=",
    "input_dir=",
    "ckpt=",
    "output_dir=",
    "batch_size=",
    "suite=",
    "minutes=",
    "patients=",
    "broken=",
)


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 5
    assert len(SETTINGS) >= 20


@pytest.mark.parametrize(("verb", "arguments"), COMMANDS)
def test_commands(verb, arguments):
    if verb == "VERB":
        return
    assert verb in VERBS
    assert check_command_line(verb, shlex.split(arguments)) is not None


@pytest.mark.parametrize("settings", [text for text in SETTINGS if not text.startswith(OF_THE_VERBS)])
def test_keys_and_options_of_training(settings):
    typed = [setting for setting in shlex.split(settings) if not setting.startswith("experiment=")]
    stages = re.findall(r"experiment=(\w+)", settings) or ["vae_baseline", "ldm_baseline"]
    refusals = []
    for experiment in stages:
        try:
            assert check_command_line("train", [f"experiment={experiment}", *typed]).overridden
            return
        except UsageError as error:
            refusals.append(str(error))
    pytest.fail("\n".join(refusals))


def test_every_verb_and_experiment_is_in_the_tables():
    conf = Path(__file__).parents[1] / "conf" / "experiment"
    for name in (*VERBS, *(path.stem for path in conf.glob("*.yaml"))):
        assert f"| `{name}` |" in README
