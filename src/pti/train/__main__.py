"""Command ``train``: ``python -m pti.train experiment=NAME data.root=FOLDER …``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import is_overridden
from pti.runs.locate import resolve
from pti.train.devices import cluster_overrides, count_devices, started_from_outside
from pti.train.launch import run_on_devices
from pti.train.preflight import check_config, to_overrides
from pti.train.resume import resume_overrides


def preflight(config: DictConfig) -> list[str]:
    """Refuse settings that are bound to fail; return the overrides that place the run in its folder."""
    hydra = HydraConfig.get()
    check_config(config, is_overridden("data.root"))
    chosen = is_overridden("output_dir")
    placed = cluster_overrides(Path(config.output_dir), chosen)
    resumed = resume_overrides(config.get("ckpt_path"), hydra.runtime.choices.get("experiment"))
    return [*to_overrides(placed), *to_overrides(resumed)]


@command("train", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> int:
    """Train in this process, or in one process per device."""
    OmegaConf.update(config, "output_dir", str(output_dir))
    if config.get("autoencoder_ckpt") is not None and config.get("ckpt_path") is None:
        # Resolved here, so that all processes use the same checkpoint.
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
