"""Train what the experiment picks: ``python -m pti.train experiment=NAME data.root=FOLDER …``."""

from __future__ import annotations

import importlib.util
import os
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.overrides import require_folder
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.runs.locate import resolve, run_dir_of

_LOGGER_PACKAGES = {"MLFlowLogger": "mlflow", "WandbLogger": "wandb"}


def preflight(config: DictConfig) -> list[str]:
    """Refuse what can be seen to fail; send a resumed run back into its folder."""
    _require_experiment(config)
    for key in ("gradient_clip_val", "accumulate_grad_batches"):
        if config.trainer.get(key) not in (None, 1):
            raise UsageError(
                f"trainer.{key}={config.trainer[key]}: Lightning can't do this for a model with two "
                f"optimizers. Set model.{key} instead."
            )
    for logger in (config.get("logger") or {}).values():
        package = _LOGGER_PACKAGES.get(str((logger or {}).get("_target_", "")).split(".")[-1])
        if package and importlib.util.find_spec(package) is None:
            raise UsageError(f"This logger needs the package {package}: pip install {package}")
    if config.data.get("generate") is None:
        require_folder("data.root", OmegaConf.select(config, "data.root", throw_on_missing=False))
    if config.get("autoencoder_ckpt") is not None and config.get("ckpt_path") is None:
        resolve(str(config.autoencoder_ckpt))
    return [*_cluster_overrides(config), *_resume_overrides(config)]


def _require_experiment(config: DictConfig) -> None:
    if "_target_" not in (config.get("model") or {}):
        found = ", ".join(sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")))
        raise UsageError(f"experiment is not set: expected experiment=NAME, one of {found}.")


def _cluster_overrides(config: DictConfig) -> list[str]:
    """One folder for all processes that torchrun or SLURM has started, which each look at the clock."""
    from pti.train.launch import started_by_launcher, started_from_outside

    if not started_from_outside() or started_by_launcher():
        return []
    leading = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
    quiet = [] if leading else ["hydra.output_subdir=null"]
    if any(text.startswith("output_dir=") for text in HydraConfig.get().overrides.task):
        return quiet
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if job == "none":
        raise UsageError("Several processes were started: give them one folder with output_dir=FOLDER.")
    return [f"output_dir={_quoted(Path(config.output_dir).with_name(f'job_{job}'))}", *quiet]


def _resume_overrides(config: DictConfig) -> list[str]:
    """``ckpt_path`` as a path; last.ckpt is continued in its run's folder, where nothing is overwritten."""
    if config.get("ckpt_path") is None:
        return []
    checkpoint = resolve(
        str(config.ckpt_path), experiment=HydraConfig.get().runtime.choices.get("experiment")
    )
    overrides, run_dir = [f"ckpt_path={_quoted(checkpoint)}"], run_dir_of(checkpoint)
    if run_dir is not None:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        overrides += [f"output_dir={_quoted(run_dir)}", f"hydra.output_subdir=.hydra/resumed_{now}"]
    return overrides


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{text}'"


@command("train", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> int:
    """Train, in this process or in one for each device."""
    from pti.train.launch import count_devices, run_on_devices, started_from_outside

    OmegaConf.update(config, "output_dir", str(output_dir))
    if config.get("autoencoder_ckpt") is not None and config.get("ckpt_path") is None:
        # Now, so that all processes of this job take the same one.
        config.autoencoder_ckpt = str(resolve(str(config.autoencoder_ckpt)))
    devices = count_devices(config.trainer)
    if devices == 1 or started_from_outside():
        from pti.train.run import train

        return train(config, output_dir)
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    OmegaConf.save(resolved, output_dir / "config.yaml")
    return run_on_devices(output_dir / "config.yaml", output_dir, devices)


if __name__ == "__main__":
    main()
