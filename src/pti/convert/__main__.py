"""``python -m pti.convert``: settings and weights of PTI-LDM-VAE become an experiment and a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import listed, require_file, require_folder, require_in_range
from pti.common.errors import UsageError
from pti.runs.locate import resolve


def preflight(cfg: DictConfig) -> None:
    """Check files, folder and numbers before anything heavy is imported."""
    if cfg.config is None:
        raise UsageError("config is not set: expected the scripts' JSON file, or a list of them.")
    for path in listed(cfg.config):
        require_file("config", path)
    require_file("weights", cfg.weights)
    if cfg.autoencoder_ckpt is not None:
        resolve(str(cfg.autoencoder_ckpt))
    if cfg.data.root is not None:
        require_folder("data.root", cfg.data.root)
    require_in_range(cfg, {"scale_factor": (1e-6, 1e6)})
    if not str(cfg.name).isidentifier():
        raise UsageError(f"name={cfg.name}: expected letters, digits and underscores.")


@command("convert", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Write the experiments, the checkpoint and the summary."""
    from pti.convert.experiment import first_stage, second_stage
    from pti.convert.original import read_settings
    from pti.convert.result import Result, finish, write_experiments

    paths = [Path(path).absolute() for path in listed(cfg.config)]
    settings = read_settings(paths)
    root = None if cfg.data.root is None else str(Path(str(cfg.data.root)).absolute())
    autoencoder = None if cfg.autoencoder_ckpt is None else resolve(str(cfg.autoencoder_ckpt))
    experiments = {}
    if "autoencoder_train" in settings or "diffusion_def" not in settings:
        experiments[f"{cfg.name}_vae"] = first_stage(settings, root)
    if "diffusion_def" in settings:
        experiments[f"{cfg.name}_ldm"] = second_stage(
            settings, root, str(autoencoder) if autoencoder else f"best:{cfg.name}_vae"
        )
    result = Result(write_experiments(output_dir, experiments, ", ".join(path.name for path in paths)))
    if cfg.weights is not None:
        from pti.convert.checkpoint import convert_weights

        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        composed = {experiment.stage: _compose(experiment) for experiment in experiments.values()}
        convert_weights(plain, composed, autoencoder, output_dir, result)
    finish(output_dir, experiments, result)
    return 0


def _compose(experiment: Any) -> dict[str, Any]:
    """Return ``model`` and ``data`` of an experiment as `train` would resolve them, plain."""
    from hydra import compose

    composed = compose("train", [f"{group}={option}" for group, option in experiment.groups.items()])
    OmegaConf.set_struct(composed, False)
    merged = OmegaConf.merge({"data": {"root": "unknown"}}, composed, experiment.values)
    if OmegaConf.is_missing(merged.data, "root"):
        merged.data.root = "unknown"
    model, data = (OmegaConf.to_container(part, resolve=True) for part in (merged.model, merged.data))
    return {"model": model, "data": data, "seed": merged.seed}


if __name__ == "__main__":
    main()
