"""Messages are taken at their word: every ``KEY=VALUE`` that one advises is tried, and works.

`advised` finds them in the source. Each is provoked and tried here, or named with the test that does it.
"""

import ast
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from helpers import second_stage_setup
from helpers.training_setup import configuration, make_images
from pti.cli.overrides import check_command_line
from pti.common.errors import DataError, UsageError, with_causes
from pti.data.checks.quick import quick_check, require_sound
from pti.data.checks.source import DataSource
from pti.data.phantom.folder import check_settings
from pti.explore.server import listen
from pti.modules.latent_diffusion import LatentDiffusion
from pti.runs.first_stage import embed_first_stage_config
from pti.train.devices import count_devices
from pti.train.resume import find_start

SOURCE = Path(__file__).parents[2] / "src" / "pti"
_SETTING = r"[a-z_]+(?:[./][a-z_\d]+|\.\{\})*=(?:\{\}|\[[^\]]*\]|[a-z\d][\w:.-]*\w|[a-z\d])"
_WORDS = (
    "[Ss]et|[Uu]se|[Uu]se the|[Aa]dd|[Oo]r|[Aa]nd|[Ww]ith|[Cc]hoose|[Ww]rite|nevertheless:|loss:|default,"
)
_LEAD = rf"(?:\b(?:{_WORDS}) |\()"
_VERB = " (?:continues|begins|compensates)"
_ADVICE = re.compile(rf"{_LEAD}({_SETTING})(?!:)(?! needs)|({_SETTING}){_VERB}")
"""A setting behind a word that advises it, or before a verb that says what it does."""


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the text of each string but docstrings, with {} for what is inserted."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def advised() -> set[str]:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for text in texts(ast.parse(path.read_text())):
            if " " in text.strip():
                found |= {
                    f"{path.relative_to(SOURCE).as_posix()}: {match[1] or match[2]}"
                    for match in _ADVICE.finditer(text)
                }
    return found


ELSEWHERE = {
    "cli/multirun.py: new_sweep=true": "sweep/test_sweep.py",
    "export/onnx_check.py: format=safetensors": "export/test_onnx.py",
    "export/onnx_graphs.py: format=safetensors": "export/test_onnx.py",
    "export/sampling_table.py: format=safetensors": "export/test_onnx.py",
    "modules/adversarial_vae.py: model.adaptive_adv_weight=false": "modules/test_freezing.py",
    "train/requeue.py: resume=auto": "train/test_requeue.py",
    "train/resume.py: resume=auto": "train/test_requeue.py",
    "train/callbacks/collapse.py: allow_config_changes=true": "train/callbacks/test_collapse.py",
}
"""Advice -> test file that follows it."""

ACCEPTED = {
    "check/full_check.py: workers=1": "check",
    "check/image_findings.py: model/normalization=masked_zscore": "train",
    "convert/experiment.py: data/augmentation=mild": "train",
    "convert/experiment.py: model.perceptual_weight=0.1": "train",
    "common/precision.py: precision=float32": "translate",
    "data/latent_cache.py: model.cache_latents=false": "train experiment=ldm_demo",
    "data/loader.py: data.num_workers=0": "train",
    "latent_study/projection.py: split=all": "analyze",
    "measure/images.py: workers=1": "measure",
    "modules/optimization.py: model.gradient_clip_val=null": "train",
    "modules/optimization.py: trainer.precision=bf16-mixed": "train",
    "networks/perceptual.py: model/perceptual=lite0": "train",
    "networks/perceptual.py: model/perceptual=none": "train",
    "train/batch_size.py: data.batch_size=8": "train",
    "train/batch_size.py: trainer.precision=bf16-mixed": "train",
    "train/callbacks/checkpoint_io.py: ckpt_path=last": "train",
    "train/callbacks/collapse.py: ckpt_path=last": "train",
    "train/callbacks/collapse.py: model/reconstruction=l2": "train",
    "train/callbacks/collapse.py: model.kl_weight=1e-6": "train",
    "train/callbacks/collapse.py: model.{}.lr=1e-4": "train",
    "train/callbacks/collapse.py: model.{}.lr={}": "train",
    "train/callbacks/collapse_discriminator.py: model.discriminator_optimizer.lr={}": "train",
    "train/callbacks/finite.py: allow_config_changes=true": "train",
    "train/callbacks/finite.py: model.gradient_clip_val={}": "train",
    "train/callbacks/finite.py: trainer.precision=32-true": "train",
    "modules/tif_data.py: trainer.devices={}": "train",
    "train/preflight.py: data.batch_size=8": "train",
    "train/failures.py: ckpt_path=last": "train",
    "train/failures.py: data.num_workers=0": "train",
    "train/failures.py: logger.wandb.offline=true": "train logger=wandb",
    "train/failures.py: trainer.precision=bf16-mixed": "train",
    "train/size_response.py: data/augmentation=ridges": "train experiment=ldm_demo",
}
"""Advice after a failure that no test can cause everywhere -> command that has to accept it."""

Attempt = Callable[..., Any]


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Attempt:
    """Check a data set and prepare it for training, as `train` does."""

    def attempt(*overrides: str) -> None:
        module = instantiate(configuration(root, tmp_path / "out", *overrides).data)
        keys = (
            "root",
            "layout",
            "fractions",
            "split_seed",
            "pixel_mm",
            "batch_size",
            "allow_links",
            "sources",
            "subset",
            "fold",
        )
        require_sound(
            replace(finding, severity="error")
            for finding in quick_check(DataSource(**{key: getattr(module, key) for key in keys}))
        )
        module.setup("fit")

    return attempt


def follow(attempt: Attempt, *overrides: str) -> list[str]:
    """Require that an attempt fails, and that it works with any of the settings that its message advises.

    Returns:
        The advised settings.
    """
    with pytest.raises(Exception) as failed:  # noqa: PT011  (Hydra wraps what constructors raise)
        attempt(*overrides)
    message = str(
        next(cause for cause in with_causes(failed.value) if isinstance(cause, (UsageError, DataError)))
    )
    advised = re.search(rf"[Ss]et (?:[^=]*[( ])?({_SETTING}(?:,? (?:and|or) {_SETTING})*)", message)
    assert advised is not None, message
    for alternative in re.split(r",? or ", advised[1]):
        attempt(*overrides, *alternative.split(" and "))
    return re.findall(_SETTING, advised[1])


def test_no_source_file_gives_advice_that_is_not_tried():
    assert advised() == {*FOLLOWED, *ELSEWHERE, *ACCEPTED}


@pytest.mark.parametrize("file", sorted(set(ELSEWHERE.values())))
def test_the_other_tests_exist(file: str):
    text = (Path(__file__).parents[1] / file).read_text()
    settings = {advice.split(": ")[1] for advice, place in ELSEWHERE.items() if place == file}
    assert [setting for setting in settings if setting not in text] == []


@pytest.mark.parametrize("advice", ACCEPTED)
def test_advice_is_accepted(advice: str):
    command, *overrides = ACCEPTED[advice].split()
    setting = advice.split(": ")[1].replace("{}.lr", "generator_optimizer.lr").replace("={}", "=1e-4")
    base = overrides or ["experiment=vae_demo"] * (command == "train")
    assert check_command_line(command, [*base, setting]).overridden[-1] == setting.split("=")[0]


def test_too_few_patients(data, tmp_path):
    root = make_images(tmp_path / "two", patients=2)
    assert follow(data, f"data.root={root}") == ["data.fractions=[1,0,0]"]


def test_images_without_partners(data, tmp_path):
    root = make_images(tmp_path / "lonely")
    for path in (root / "dente").iterdir():
        path.unlink()
    assert follow(data, f"data.root={root}") == ["data/layout=single", "data.layout.folder=edente"]


def test_links(data, root, tmp_path):
    for folder in ("dente", "edente"):
        (tmp_path / "linked" / folder).mkdir(parents=True)
        for path in (root / folder).iterdir():
            (tmp_path / "linked" / folder / path.name).symlink_to(path)
    assert follow(data, f"data.root={tmp_path / 'linked'}") == ["data.allow_links=true"]


def test_another_pixel_size(data):
    assert follow(data, "data.pixel_mm=0.3") == ["data.pixel_mm=0.15"]


def test_a_cache_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").touch()
    assert follow(data, f"data.cache_dir={tmp_path}/file/cache") == ["data.cache=false"]


def test_too_few_samples(data):
    assert follow(data, "data.batch_size=64") == ["data.batch_size=21"]


def test_a_split_that_differs_from_the_checkpoint(root, tmp_path):
    def attempt(*overrides: str) -> None:
        module = instantiate(configuration(root, tmp_path / "out", *overrides).data)
        module.setup("fit")
        state = module.state_dict() | {"seed": 7}
        module.trainer = Mock(global_rank=0, world_size=1)
        module.trainer.state.fn = "fit"
        module.load_state_dict(state)

    assert follow(attempt) == ["data.allow_config_changes=true"]


def test_changed_settings(root, tmp_path):
    old: Any = OmegaConf.to_container(configuration(root, tmp_path / "out"))
    content = {"config": old, "batches_done": 1, "moment": "", "world_size": 1}
    (tmp_path / "best.ckpt").touch()

    def attempt(*overrides: str) -> None:
        new = configuration(root, tmp_path / "out", f"ckpt_path={tmp_path / 'best.ckpt'}", *overrides)
        plain: Any = OmegaConf.to_container(new)
        find_start(Mock(path=tmp_path, content=content), plain, tmp_path / "out", 1)

    assert follow(attempt, "model.generator_optimizer.lr=1e-4") == ["allow_config_changes=true"]


def test_a_schedule_without_an_end(root, tmp_path):
    def attempt(*overrides: str) -> None:
        instantiate(configuration(root, tmp_path, *overrides).model.lr_schedule).factor(0, float("inf"))

    assert follow(attempt, "model.lr_schedule.decay=cosine") == ["model.lr_schedule.decay=constant"]


def test_no_gpu(root, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)

    def attempt(*overrides: str) -> None:
        count_devices(configuration(root, tmp_path, *overrides).trainer)

    for asked in ("trainer=gpu", "trainer=ddp", "trainer.accelerator=gpu"):
        assert follow(attempt, asked) == ["trainer.accelerator=cpu"]


def test_ports_and_addresses():
    def attempt(*overrides: str) -> None:
        chosen = {"host": "127.0.0.1", "port": "65535"} | dict(text.split("=") for text in overrides)
        listen(chosen["host"], int(chosen["port"])).close()

    with socket.create_server(("127.0.0.1", 65535)):
        assert follow(attempt) == ["port=0"]
    assert follow(attempt, "host=192.0.2.1", "port=0") == ["host=127.0.0.1"]


@pytest.fixture
def second_stage(root: Path, link: str, tmp_path: Path) -> Attempt:
    """Build a second stage and its data, and set it up for training."""

    def attempt(*overrides: str, guidance_scale: float | None = None) -> None:
        config = second_stage_setup.configuration(root, tmp_path / "out", link, *overrides)
        plain: Any = OmegaConf.to_container(config)
        embed_first_stage_config(plain)
        module = instantiate(plain["model"])
        module._trainer = Mock(datamodule=instantiate(plain["data"]))
        module.setup("fit")

    return attempt


@pytest.mark.parametrize(
    ("override", "advised"),
    [
        ("model.guidance_scale=2", "model.condition_dropout=0.1"),
        ("model.network.latent_channels=7", "model.network.latent_channels=4"),
        ("model.network.condition_maps=4", "model.network.condition_maps=0"),
        ("model.network.change_gate=true", "model.network.change_gate=false"),
        ("data.image_size=18", "data.image_size=20"),
        ("data.sources=both", "data.sources=pairs"),
    ],
)
def test_a_second_stage(second_stage, override, advised):
    assert follow(second_stage, override, "model.condition_dropout=0") == [advised]


def test_other_ridges_in_training_pairs(second_stage):
    ridges = ("data/augmentation=mild", "data.augmentation.ridge=0.5")
    assert follow(second_stage, *ridges) == ["data.augmentation.ridge=0", "model/size_condition=predicted"]


def test_guidance_of_a_model_without_condition_dropout():
    module = Mock(condition_dropout=0.0, guidance_scale=1.0)

    def attempt(*overrides: str) -> None:
        scale = dict(text.split("=") for text in overrides).get("guidance_scale", 2.0)
        LatentDiffusion.resolve_sampling(module, None, None, float(scale))

    assert follow(attempt)[:1] == ["guidance_scale=1"]


def test_a_phantom_that_would_not_fit():
    settings = {"patients": 1, "slices": 1, "image_size": 64, "seed": 0, "pixel_mm": 0.3}

    def attempt(*overrides: str) -> None:
        field = dict(text.split("=") for text in overrides).get("style.field", 9.0)
        check_settings(settings | {"style": {"field": float(field)}})

    assert follow(attempt) == ["style.field=1.04"]


FOLLOWED = {
    "data/checks/headers.py: data.pixel_mm={}",
    "data/checks/structure.py: data/layout=single",
    "data/image_cache.py: data.cache=false",
    "data/layouts.py: data.allow_links=true",
    "data/patient_split.py: data.fractions=[1,0,0]",
    "data/phantom/folder.py: style.field={}",
    "explore/server.py: host=127.0.0.1",
    "explore/server.py: port=0",
    "modules/latent_diffusion.py: guidance_scale=1",
    "modules/latent_diffusion.py: model.condition_dropout=0.1",
    "modules/latent_diffusion.py: model.network.change_gate=false",
    "modules/latent_diffusion.py: model.network.condition_maps={}",
    "modules/latent_space/__init__.py: data.image_size={}",
    "modules/latent_space/__init__.py: model.network.latent_channels={}",
    "modules/optimization.py: model.lr_schedule.decay=constant",
    "modules/tif_data.py: data.allow_config_changes=true",
    "modules/translation.py: data.augmentation.ridge=0",
    "modules/translation.py: data.sources=pairs",
    "modules/translation.py: model/size_condition=predicted",
    "train/devices.py: trainer.accelerator=cpu",
    "train/resume.py: allow_config_changes=true",
}
"""Advice that a test of this file provokes and follows."""
