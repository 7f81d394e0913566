"""Construction from a checkpoint's configuration, restricted to a fixed set of names."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pti.common.conf_dir import CONF_DIR
from pti.runs.constructors import CONSTRUCTORS, TRAINING_ONLY, CheckpointError, build, check_targets


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "builtins.eval",
        "hydra.utils.instantiate",
        "pti.runs.checkpoint.load",
        "pti.data.phantom.make_phantom",
        "torch.nn.functional.torch.load",
        "torch.optim.lr_scheduler.torch.hub.load",
        "pti.modules.adversarial_vae.losses.torch.load",
        "pti.modules.adversarial_vae.AdversarialVAE.load_from_checkpoint",
        "torch.nn.Module.__init__",
        "pti.train.callbacks.checkpoint_io.AtomicCheckpointIO.remove_checkpoint",
        "monai.networks.utils.save_state",
        "pti.networks.perceptual.MonaiPerceptual",
        "pti.losses",
        "torch.nnx.Linear",
        "torch.nn",
        "monai.networks.nets.DoesNotExist",
        ["torch.nn.Linear"],
    ],
)
def test_other_targets_are_refused(target):
    for config in ({"_target_": target}, {"a": [{"b": {"_target_": target, "_partial_": True}}]}):
        with pytest.raises(CheckpointError, match=r"x\.ckpt: refused"):
            check_targets(config, "x.ckpt")


def test_other_targets_are_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "trap_for_imports.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError):
        check_targets({"_target_": "trap_for_imports.anything"}, "x.ckpt")


def test_interpolations_are_refused():
    with pytest.raises(CheckpointError, match="evaluated"):
        check_targets({"_target_": "pti.losses.Term", "weight": "${oc.env:HOME}"}, "x.ckpt")


def test_special_keys_are_refused():
    with pytest.raises(CheckpointError, match=r"x\.ckpt: refused.*_args_"):
        check_targets({"_target_": "pti.losses.Term", "_args_": [1]}, "x.ckpt")


@pytest.mark.parametrize(
    ("target", "argument"),
    [
        ("pti.losses.l1", "file"),
        ("pti.losses.Term", "functions"),
        ("pti.modules.latent_diffusion.LatentDiffusion", "changed_weight"),
        ("pti.modules.regression.Regression", 1),
        ("torch.optim.Adam", "learning_rate"),
    ],
)
def test_unknown_arguments_are_refused(target: str, argument: Any):
    with pytest.raises(CheckpointError, match=rf"x\.ckpt: refused.*{target}.*no argument {argument}"):
        check_targets({"_target_": target, argument: None}, "x.ckpt")


def test_arguments_of_base_classes_are_known():
    call = {
        "_target_": "pti.modules.latent_diffusion.LatentDiffusion",
        "sampling_steps": 3,
        "ema_decay": None,
    }
    check_targets({**call, "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True}}, "x.ckpt")


def test_calls_partial_calls_and_containers_are_built():
    function = {"_target_": "pti.losses.focal_frequency", "_partial_": True, "alpha": 0.5}
    built = build({"terms": [{"_target_": "pti.losses.Term", "weight": 2.0, "function": function}]}, "x.ckpt")
    (term,) = built["terms"]
    assert term.weight == 2.0
    assert term.function.keywords == {"alpha": 0.5}


def test_a_constructor_that_rejects_its_arguments_is_named():
    with pytest.raises(CheckpointError, match=r"x\.ckpt: pti\.losses\.Term rejects its arguments"):
        build({"_target_": "pti.losses.Term"}, "x.ckpt")


def test_parts_for_training_alone_are_left_out():
    assert build({"perceptual": {"_target_": "os.system", "command": "exit"}}, "x.ckpt") == {
        "perceptual": None
    }


def targets_below(folder: Path) -> Iterator[str]:
    """Every ``_target_`` in the YAML files of a group of the configuration."""

    def walk(value: Any) -> Iterator[str]:
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, item in items:
            if key == "_target_":
                yield item
            yield from walk(item)

    for path in sorted(folder.rglob("*.yaml")):
        if path.parent.name not in TRAINING_ONLY:
            yield from walk(OmegaConf.to_container(OmegaConf.load(path)))


@pytest.mark.parametrize("group", ["model", "data/layout", "data/augmentation"])
def test_the_configuration_names_only_these_constructors(group: str):
    names = set(targets_below(CONF_DIR / group))
    assert names
    assert names <= CONSTRUCTORS


@pytest.mark.parametrize("name", sorted(CONSTRUCTORS))
def test_each_name_is_a_class_or_a_function_of_a_module(name: str):
    module, _, attribute = name.rpartition(".")
    constructor = getattr(importlib.import_module(module), attribute)
    assert inspect.isclass(constructor) or inspect.isfunction(constructor)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")))
def test_the_model_of_every_experiment_is_allowed(experiment: str):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "data.root=."])
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    model |= {key: None for key in TRAINING_ONLY if key in model}
    check_targets(model, "x.ckpt")
    assert model["_target_"].startswith("pti.modules.")
    with pytest.raises(CheckpointError, match="refused"):  # the same with one part exchanged
        check_targets({**model, "normalization": {"_target_": "os.system"}}, "x.ckpt")
