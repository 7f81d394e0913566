"""``python -m pti.evaluate``: measure a checkpoint, or anybody's images, against the truth."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import (
    POSITIVE,
    SPLITS,
    require_above_zero,
    require_file,
    require_folder,
    require_in_range,
    require_one_of,
)
from pti.common.errors import UsageError
from pti.common.processes import prepare_workers
from pti.runs.locate import resolve


def preflight(cfg: DictConfig) -> None:
    """Refuse a checkpoint, a folder or a number that can't be, before anything heavy is imported."""
    checkpoints, folders = listed(cfg.ckpt), listed(cfg.prediction_dir)
    if bool(checkpoints) == bool(folders):
        found = "both are set" if folders else "neither is set"
        raise UsageError(f"ckpt and prediction_dir: {found}, expected one of the two.")
    if folders:
        for folder in folders:
            require_folder("prediction_dir", folder)
        require_folder("target_dir", cfg.target_dir, "It holds the true images of the predictions' names.")
        for key in ("condition_dir", "training_dir"):
            if cfg[key] is not None:
                require_folder(key, cfg[key])
    else:
        for name in checkpoints:
            resolve(name)
        if cfg.data.root is not None:
            require_folder("data.root", cfg.data.root)
    require_one_of(cfg, {"split": SPLITS})
    require_in_range(cfg, dict.fromkeys(("samples", "steps", "batch_size", "num_samples"), POSITIVE))
    require_above_zero(cfg, "pixel_mm", "data_range")
    require_file("calibration", cfg.calibration)


@command("evaluate", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Gather predictions and truths, measure them, write the tables and the page."""
    prepare_workers("pti.evaluate.scores", "pti.metrics.image")
    from pti.evaluate.of_folders import guarded
    from pti.evaluate.result import figures_of, write_report
    from pti.runs.summary import print_summary, write_summary

    with guarded(output_dir, settings_of(cfg)):
        if listed(cfg.ckpt):
            from pti.evaluate.of_checkpoints import evaluate_checkpoints

            outcome = evaluate_checkpoints(cfg, [resolve(name) for name in listed(cfg.ckpt)], output_dir)
        else:
            from pti.evaluate.of_folders import evaluate_folders

            outcome = evaluate_folders(cfg, [Path(name).expanduser() for name in listed(cfg.prediction_dir)])
        evaluation = outcome.evaluation
        artefacts = write_report(evaluation, output_dir)
        figures = figures_of(evaluation)
        write_summary(
            output_dir,
            command="evaluate",
            figures=figures,
            artefacts=artefacts,
            data_fingerprint=outcome.fingerprint,
            checkpoint=outcome.checkpoint,
            seed=cfg.seed,
        )
    print_summary(f"Evaluation of {evaluation.main}", figures, artefacts)
    for note in evaluation.notes:
        print(f"Note: {note}.")


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """What makes an evaluation what it is: another one goes into another folder."""
    keys = ("split", "data", "samples", "sampler", "steps", "guidance_scale", "num_samples", "seed")
    if not listed(cfg.ckpt):
        keys = ("target_dir", "condition_dir", "training_dir", "num_samples", "seed")
    settings = {key: plain(cfg[key]) for key in keys}
    paths = [resolve(name) for name in listed(cfg.ckpt)] or [
        Path(name).absolute() for name in listed(cfg.prediction_dir)
    ]
    return {"command": "evaluate", "of": [str(path) for path in paths], **settings}


def plain(value: Any) -> Any:
    """A node of the configuration as plain containers."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def listed(value: Any) -> list[str]:
    """One value or a list of them as a list of text; None is an empty one."""
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, (list, ListConfig)) else [str(value)]


if __name__ == "__main__":
    main()
