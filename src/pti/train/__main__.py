"""Command ``train``: ``python -m pti.train experiment=NAME data.root=FOLDER …``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.path_values import expand_paths
from pti.cli.preflight import is_overridden
from pti.common.errors import UsageError
from pti.runs.locate import resolve
from pti.train.batch_size import AUTO, choose_batch_size, gpus
from pti.train.cross_validation import first_stage_of
from pti.train.devices import (
    check_environment,
    cluster_overrides,
    count_devices,
    is_leading,
    started_from_outside,
)
from pti.train.launch import run_on_devices
from pti.train.preflight import check_config, to_overrides
from pti.train.requeue import (
    REQUEUE_SIGNAL,
    checkpoint_of,
    create_folder,
    leads_to_the_same,
    requeue,
    saved_config,
    was_requeued,
)
from pti.train.resume import resume_overrides


def preflight(config: DictConfig) -> list[str]:
    """Refuse settings that are bound to fail; return the overrides that place the run in its folder."""
    hydra = HydraConfig.get()
    check_environment(config.get("trainer") or {})
    check_config(config, is_overridden("data.root"))
    chosen, auto = is_overridden("output_dir"), config.get("resume") == "auto"
    checkpoint = config.get("ckpt_path")
    if hydra.mode == RunMode.MULTIRUN:  # a sweep places and resumes its jobs itself
        _require_origin(config, checkpoint)
        resume_overrides(checkpoint, hydra.runtime.choices.get("experiment"))
        return []
    placed = cluster_overrides(Path(config.output_dir), chosen, resumes=auto)
    run_dir = Path(placed.get("output_dir") or config.output_dir)
    own_checkpoint = run_dir / "checkpoints" / f"{checkpoint}.ckpt"
    if chosen and checkpoint in ("last", "best") and own_checkpoint.is_file():
        checkpoint = str(own_checkpoint)
    if auto or (was_requeued() and (chosen or "output_dir" in placed)):
        _end_if_finished(run_dir, config)
        checkpoint = checkpoint_of(run_dir) or checkpoint
    _require_origin(config, checkpoint)
    resumed = resume_overrides(checkpoint, hydra.runtime.choices.get("experiment"))
    own = any(text.startswith("hydra.run.dir=") for text in hydra.overrides.hydra)
    if not (chosen or own or "output_dir" in placed or "output_dir" in resumed):
        # Not output_dir: `main` asks whether the user has set that.
        placed["hydra.run.dir"] = create_folder(Path(config.output_dir))
    return [*to_overrides(placed), *to_overrides(resumed)]


def _require_origin(config: DictConfig, checkpoint: str | None) -> None:
    """Refuse an autoencoder or weights that don't exist; a resumed run has its own in the checkpoint."""
    if config.get("autoencoder_ckpt") is not None and checkpoint is None:
        first_stage_of(config)
    if config.get("init_from") is not None and checkpoint is None:
        try:
            resolve(str(config.init_from))
        except UsageError as error:
            raise UsageError(f"init_from: {error}") from None


def _end_if_finished(run_dir: Path, config: DictConfig) -> None:
    """End the process if a run with the same settings has finished in its folder."""
    path = saved_config(run_dir)
    if path is not None and leads_to_the_same(_plain(OmegaConf.load(path)), _plain(config)):
        if is_leading():
            print(f"The run in {run_dir} is finished; nothing is left to train.", flush=True)
        raise SystemExit(0)


def _plain(config: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(expand_paths(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@command("train", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> int:
    """Train, and requeue a SLURM job that SIGUSR1 has stopped."""
    code = _train(config, output_dir)
    if code == 128 + REQUEUE_SIGNAL and is_leading():
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        requeue(sweep or is_overridden("output_dir") or config.get("resume") == "auto")
    return code


def _train(config: DictConfig, output_dir: Path) -> int:
    """Train in this process, or in one process per device."""
    OmegaConf.update(config, "output_dir", str(output_dir))
    if config.get("autoencoder_ckpt") is not None and config.get("ckpt_path") is None:
        # Resolved here, so that all processes use the same checkpoint.
        config.autoencoder_ckpt = str(first_stage_of(config))
    if config.get("init_from") is not None and config.get("ckpt_path") is None:
        config.init_from = str(resolve(str(config.init_from)))
    devices = count_devices(config.trainer)
    if config.data.get("batch_size") == AUTO:
        config.data.batch_size = _batch_size(config, devices)
    if devices == 1 or started_from_outside():
        from pti.train.run import train

        return train(config, output_dir)
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    OmegaConf.save(resolved, output_dir / "config.yaml")
    return run_on_devices(output_dir / "config.yaml", output_dir, devices)


def _batch_size(config: DictConfig, devices: int) -> int:
    """Return the batch size of the checkpoint to resume, or else the largest one that fits."""
    if config.get("ckpt_path") is not None:
        from pti.runs.checkpoint import open_intact

        return int(open_intact(resolve(str(config.ckpt_path)))[0].config["data"]["batch_size"])
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return choose_batch_size(resolved, gpus(config.trainer, devices))


if __name__ == "__main__":
    main()
