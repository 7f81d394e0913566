"""Values of path keys: taken as they are typed, in every command, with ``~`` expanded."""

import os
import shlex
from functools import partial
from pathlib import Path
from runpy import run_module
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from helpers import forks
from helpers.in_process import run_command
from helpers.training_setup import arguments, make_images
from pti.cli.options import arguments_for_hydra
from pti.cli.overrides import check_command_line
from pti.cli.path_values import LIST_KEYS, expand_paths, quote_paths
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.common.nested import flatten
from pti.common.path_settings import is_path_key, setting
from pti.runs.locate import resolve

INFERENCE = {"output_dir", "data.root", "data.val_root", "data.test_root"}
STUDY = {"ckpt", "input_dir", "cache_dir", *INFERENCE}
DATA = {*INFERENCE, "data.cache_dir", "data.layout.condition_folder", "data.layout.target_folder"}
PATH_KEYS = {
    "analyze": STUDY,
    "benchmark": {"ckpt", "output_dir"},
    "check": DATA,
    "convert": {"config", "weights", "autoencoder_ckpt", "data.root", "output_dir"},
    "demo": {"output_dir", "data.root"},
    "evaluate": {
        *("ckpt", "prediction_dir", "target_dir", "condition_dir", "training_dir", "calibration"),
        *INFERENCE,
    },
    "explore": STUDY,
    "export": {"ckpt", "output_dir"},
    "make_phantom": {"output_dir"},
    "measure": {
        *("output_dir", "input_dir", "data.root"),
        *("data.layout.condition_folder", "data.layout.target_folder"),
    },
    "reconstruct": {"ckpt", "input_dir", *INFERENCE},
    "train": {
        *("ckpt_path", "autoencoder_ckpt", "init_from", "logger.tensorboard.save_dir"),
        *DATA,
    },
    "tune": {*("ckpt_path", "autoencoder_ckpt", "init_from", "logger.tensorboard.save_dir"), *DATA},
    "translate": {"ckpt", "input_dir", "calibration", *INFERENCE},
}
"""Keys of each command whose values are paths."""

NAMES = [
    *(
        "données",
        "日本",
        "💀",
        "a{b}",
        "x#1",
        "true",
        "False",
        "123",
        "1e3",
        "1:2",
        "my=run/last.ckpt",
        "a b",
        " a",
    ),
    *("a (1)", "choice(a,b)", "range(1,3)", "a$b", "$", "a,b", r"C:\new data\t", "C:\\data\\", "\\", r"a\ b"),
    *(
        "Mark's",
        "a'b'",
        "'",
        "'a",
        'say "x"',
        "a\nb",
        "a\tb",
        "-x",
        "*",
        "a&b;c|d<e>",
        "a`b`",
        "{a: 1}",
        "100%",
        "a@b",
    ),
    *("a\\'b", "a\\\\'b\\", "best:vae_demo", "donn\udce9es"),
]
"""Names that Hydra's grammar refuses, or reads as something else."""


def typed(key: str, text: str, sweep: bool = False) -> object:
    """Return what Hydra reads from ``key=text``."""
    (override,) = OverridesParser.create().parse_overrides(quote_paths([f"{key}={text}"], sweep))
    if override.is_sweep_override():
        values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        return [override.value() for override in OverridesParser.create().parse_overrides(values)]
    return override.value()


def test_the_path_keys_of_every_command():
    commands = {path.parent.name for path in (CONF_DIR.parent / "src" / "pti").glob("*/__main__.py")}
    assert set(PATH_KEYS) == commands
    for command, keys in PATH_KEYS.items():
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config: Any = OmegaConf.to_container(compose(command))
        assert {key for key in flatten(config) if is_path_key(key)} == keys, command


def test_every_key_that_the_files_describe_as_a_path_is_one():
    lines = [line for path in CONF_DIR.rglob("*.yaml") for line in path.read_text().splitlines()]
    described = {
        line.split(":")[0].strip()
        for line in lines
        if any(
            word in line.partition(" # ")[2]
            for word in ("below data.root", "local disk", "path of a", "json")
        )
    }
    assert {"table", "folder", "cache_dir", "ckpt", "calibration", "condition_folder"} <= described
    assert [key for key in described if not is_path_key(key)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_read_as_it_is_typed(name: str):
    for key in ("data.root", "ckpt", "+x.some_dir", "++ckpt_path"):
        assert typed(key, name) == name
    once = quote_paths([f"ckpt={name}"], sweep=False)
    assert quote_paths(once, sweep=False) == once
    (pasted,) = shlex.split(setting("ckpt", name))
    assert typed("ckpt", pasted.partition("=")[2]) == name


@pytest.mark.parametrize("command", PATH_KEYS)
def test_every_command_takes_paths_as_they_are_typed(command: str, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    keys, seen = sorted(PATH_KEYS[command]), []
    for text, path in (("~/a{b}=x#1", "/home/me/a{b}=x#1"), ("true", "true"), ("a,b (1)", "a,b (1)")):
        check_command_line(command, [f"{key}={text}" for key in keys], seen.append)
        assert {key: OmegaConf.select(seen[-1], key) for key in keys} == dict.fromkeys(keys, path)
    sweep = [f"{key}=~/a{{b}}" for key in keys[1:]] + [f"{keys[0]}=x#1,~/y=z,'a,b',${{oc.env:HOME}}"]
    jobs = check_command_line(command, ["-m", *sweep]).jobs
    assert [OmegaConf.select(job.config, keys[0]) for job in jobs] == [
        "x#1",
        "/home/me/y=z",
        "a,b",
        "/home/me",
    ]
    assert all(OmegaConf.select(jobs[0].config, key) == "/home/me/a{b}" for key in keys[1:])


def test_values_that_keep_their_meaning():
    assert typed("data.root", "null") is None
    assert typed("data.root", "'x y'") == typed("data.root", '"x y"') == "x y"
    assert typed("data.root", "${oc.env:HOME}/a(b)") == "${oc.env:HOME}/a(b)"
    assert typed("data.root", "choice(a,b)", sweep=True) == ["a", "b"]
    assert typed("data.root", "x y,[z],null", sweep=True) == ["x y", "[z]", None]
    assert typed("data.root", "[x]") == "[x]"
    unchanged = ["~data.root", "~data.root=a{b}", "data=phantom", "subtitle=a", "data.root="]
    assert quote_paths(unchanged, sweep=True) == unchanged


@pytest.mark.parametrize("key", LIST_KEYS)
def test_lists_of_paths(key: str, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    read = typed(key, "[my=run/last.ckpt,~/b{1}.ckpt,'x,y',best:vae_demo]")
    assert read == ["my=run/last.ckpt", "/home/me/b{1}.ckpt", "x,y", "best:vae_demo"]
    assert typed(key, "[a=b],[c]", sweep=True) == [["a=b"], ["c"]]


def test_a_tilde_in_a_file_is_expanded_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    content = {"data": {"root": "~/x", "note": "~/y"}, "ckpt": ["~/a", "b"], "output_dir": "${data.root}/out"}
    config = expand_paths(OmegaConf.create(content))
    assert config.data == {"root": "/home/me/x", "note": "~/y"}
    assert config.ckpt == ["/home/me/a", "b"]
    assert config.output_dir == "/home/me/x/out"


def test_a_tilde_that_names_nobody_stays(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert typed("data.root", "~nobody-of-this-name/x") == "~nobody-of-this-name/x"
    with pytest.raises(UsageError, match="no such checkpoint"):
        resolve("~nobody-of-this-name/last.ckpt")
    assert shlex.split(setting("data.root", "~x")) == ["data.root=./~x"]


def test_python_opens_checkpoints_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "last.ckpt").touch()
    assert resolve("~/last.ckpt") == tmp_path / "last.ckpt"


def test_a_forgotten_m_is_mentioned():
    from pti.check.__main__ import preflight

    with pytest.raises(UsageError, match=r"^data\.root='\"/no,/where\"': expected.* option -m"):
        check_command_line("check", ["data.root=/no,/where"], preflight)


def test_messages_can_be_pasted():
    from pti.check.__main__ import preflight

    for name in ("/no where/x", "/nowhere/Mark's", "/nowhere/[x]", "/nowhere/a,b"):
        with pytest.raises(UsageError) as refused:
            check_command_line("check", [f"data.root={name}"], preflight)
        (pasted,) = shlex.split(str(refused.value).split(": expected")[0])
        assert typed("data.root", pasted.partition("=")[2]) == name


def test_options_stay_before_overrides():
    line = arguments_for_hydra(["data.root=a{b}", "--cfg", "job", "seed=1"])
    assert line == ["--cfg", "job", "data.root='a{b}'", "seed=1"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", ["a{b}=x#1, Mark's (1) données", "true", r"back\slash $x [y]"])
def test_from_data_to_translations_in_folders_of_any_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    make_images(home / name)
    tiny = [text for text in arguments(home) if not text.startswith("data.root=")]
    tiny += ["trainer.max_epochs=1", "data.cache_dir=~/cache"]
    data, out = f"data.root=~/{name}", f"~/out/{name}"
    monkeypatch.setenv("HOME", str(home))

    def run(verb: str, *typed: str, code: int = 0) -> str:
        program: Any = partial(run_module, f"pti.{verb}", run_name="__main__")
        done = run_command(program, tmp_path, *typed, code=code)
        return done.stdout + done.stderr

    run("check", data, f"output_dir={out}/check", "workers=1")
    run("train", *tiny, data, f"output_dir={out}/vae")
    vae = home / "out" / name / "vae" / "checkpoints"
    assert "output_dir" in run("train", *tiny, data, f"output_dir={out}/vae", code=2)
    run("train", *tiny, "trainer.max_epochs=2", data, f"ckpt_path={vae}/last.ckpt")
    run("reconstruct", f"ckpt={out}/vae/checkpoints/last.ckpt", data, f"output_dir={out}/r")
    assert (home / "out" / name / "r" / "summary.json").is_file()
    assert (home / "out" / name / "check" / "check.html").is_file()
    swept = [*tiny, "-m", f"data.root='~/{name}'" if "'" not in name else f'data.root="~/{name}"', "seed=1,2"]
    code, output = forks.run(tmp_path, *swept, f"output_dir={out.replace(',', '')}/sweep", HOME=str(home))
    assert code == 0, output
    assert len(list((home / "out" / name.replace(",", "") / "sweep").glob("*/checkpoints/last.ckpt"))) == 2
    for folder in (tmp_path, home):
        assert [entry for entry in os.listdir(folder) if entry.startswith("~")] == []


@pytest.mark.slow
def test_two_processes_train_in_a_folder_of_any_name(tmp_path: Path):
    name = "a{b}=x#1, Mark's (1) [y]"
    make_images(tmp_path / name)
    tiny = [text for text in arguments(tmp_path) if not text.startswith(("data.root=", "trainer"))]
    ddp = ["trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1", "data.batch_size=2"]
    overrides = (*tiny, *ddp, f"data.root=~/{name}", f"output_dir=~/out {name}")
    code, output = forks.run(tmp_path, *overrides, HOME=str(tmp_path))
    assert code == 0, output
    assert (tmp_path / f"out {name}" / "checkpoints" / "last.ckpt").is_file()
    assert "~" not in os.listdir(tmp_path)
