"""``python -m pti.evaluate``: measure a checkpoint, or any folder of images, against the true images."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import (
    POSITIVE,
    SPLITS,
    listed,
    require_above_zero,
    require_file,
    require_folder,
    require_in_range,
    require_one_of,
)
from pti.common.errors import UsageError
from pti.common.path_settings import as_value, setting
from pti.common.precision import PRECISIONS, require_precision
from pti.common.processes import prepare_workers
from pti.runs.locate import resolve

if TYPE_CHECKING:
    from pti.evaluate.evaluation import EvaluationOutcome, EvaluationSettings

ARTEFACTS = ("report.html", "summary.csv", "per_slice.csv")
_SETTINGS = ("num_samples", "pixel_mm", "data_range", "distributions", "seed", "patient_pattern")
_PATHS = ("calibration", "condition_dir", "training_dir")
_SHARED_KEYS = ("num_samples", "seed")
_CHECKPOINT_KEYS = (
    "split",
    "data",
    "samples",
    "sampler",
    "steps",
    "guidance_scale",
    "share_noise",
    "mirror",
    "ensemble",
    "precision",
    *_SHARED_KEYS,
)
_FOLDER_KEYS = ("target_dir", "condition_dir", "training_dir", *_SHARED_KEYS)


def preflight(cfg: DictConfig) -> None:
    """Check the checkpoints, folders and numbers before anything heavy is imported."""
    checkpoints, folders = listed(cfg.ckpt), listed(cfg.prediction_dir)
    if bool(checkpoints) == bool(folders):
        state = "both are set" if folders else "neither is set"
        raise UsageError(f"ckpt and prediction_dir: {state}, expected one of the two.")
    if cfg.ensemble and len(checkpoints) < 2:
        found = setting("ckpt", checkpoints[0]) if checkpoints else "prediction_dir"
        raise UsageError(f"ensemble=true: expected several checkpoints, ckpt=[A,B], found {found}.")
    if folders:
        for folder in folders:
            require_folder("prediction_dir", folder)
        require_folder("target_dir", cfg.target_dir, "Set it to the folder of the true images.")
        for key in ("condition_dir", "training_dir"):
            if cfg[key] is not None:
                require_folder(key, cfg[key])
    else:
        for name in checkpoints:
            resolve(name)
        if cfg.data.root is not None:
            require_folder("data.root", cfg.data.root)
    require_one_of(cfg, {"split": SPLITS, "precision": PRECISIONS})
    require_in_range(cfg, dict.fromkeys(("samples", "steps", "batch_size", "num_samples"), POSITIVE))
    require_in_range(cfg, {"pixel_mm": (0.001, 10)})  # as for the sizes that files state
    require_above_zero(cfg, "data_range")
    require_file("calibration", cfg.calibration)


@command("evaluate", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Gather predictions and true images, measure them, write the tables and the page."""
    prepare_workers("pti.evaluate.scores", "pti.metrics.image")
    from pti.evaluate.evaluation import EvaluationSettings
    from pti.evaluate.of_folders import evaluate_folders
    from pti.evaluate.report import summary_values, write_report
    from pti.runs.manifest import Manifest
    from pti.runs.summary import print_summary, write_summary

    values: dict[str, Any] = {key: cfg[key] for key in _SETTINGS}
    values |= {key: cfg[key] and Path(str(cfg[key])) for key in _PATHS}
    settings = EvaluationSettings(**values)
    with Manifest(output_dir, manifest_settings(cfg), ARTEFACTS):
        if listed(cfg.ckpt):
            outcome = of_checkpoints(cfg, settings, output_dir)
        else:
            folders = [Path(name) for name in listed(cfg.prediction_dir)]
            outcome = evaluate_folders(folders, Path(str(cfg.target_dir)), settings)
        evaluation = outcome.evaluation
        artefacts, values = write_report(evaluation, output_dir), summary_values(evaluation)
        write_summary(
            output_dir,
            command="evaluate",
            metrics=values,
            artefacts=artefacts,
            data_fingerprint=outcome.fingerprint,
            checkpoint=outcome.checkpoint,
            seed=cfg.seed,
        )
    following = next_command(cfg, output_dir)
    notes = (f"Note: {note}." for note in evaluation.notes)
    print_summary(f"Evaluation of {evaluation.main}", values, artefacts, following, notes)


def of_checkpoints(cfg: DictConfig, settings: "EvaluationSettings", output_dir: Path) -> "EvaluationOutcome":
    """Evaluate the checkpoints of the configuration."""
    from hydra.utils import instantiate

    from pti.evaluate.checkpoint_predictions import CheckpointPredictions, open_checkpoints
    from pti.evaluate.of_checkpoints import evaluate_checkpoints
    from pti.inference.devices import choose_devices
    from pti.inference.loaded import ensemble, predicts_sizes
    from pti.inference.sampling_settings import refuse_sampling, sampling_of

    devices = choose_devices(cfg.accelerator, cfg.devices)
    require_precision(cfg.precision, devices[0])
    paths = [resolve(name) for name in listed(cfg.ckpt)]
    overrides: Any = OmegaConf.to_container(cfg.data)
    predictors, data = open_checkpoints(paths, overrides)
    if cfg.ensemble:
        predictors = {f"ensemble of {len(paths)}": ensemble(list(predictors.values())), **predictors}
    if all(predicts_sizes(predictor) for predictor in predictors.values()):
        refuse_sampling(cfg, paths[0])
    predictions = CheckpointPredictions(
        predictors,
        data,
        cfg.split,
        sampling_of(cfg, instantiate(cfg.sampler)),
        output_dir,
        devices,
        cfg.batch_size,
        cfg.num_samples,
    )
    return evaluate_checkpoints(predictions, settings)


def next_command(cfg: DictConfig, output_dir: Path) -> str | None:
    """Return the command that uses the checkpoint and its calibration, or completes the comparison."""
    from pti.runs.summary import from_here

    path = output_dir / "calibration.json"
    if not listed(cfg.ckpt):
        return complete_comparison(cfg)
    paths = [from_here(resolve(name)) for name in listed(cfg.ckpt)]
    ckpt = setting("ckpt", paths[0])
    if cfg.ensemble:
        ckpt = shlex.quote(f"ckpt=[{','.join(as_value(path) for path in paths)}]")
    # A calibration holds for the sampling that it was fitted to.
    chosen = [text for text in HydraConfig.get().overrides.task if text.startswith(("sampler=", "sampler."))]
    same = [shlex.quote(text) for text in chosen]
    same += [f"{key}={cfg[key]}" for key in ("samples", "steps", "guidance_scale") if cfg[key] is not None]
    same += [f"{key}=true" for key in ("share_noise", "mirror") if cfg[key]]
    same += [f"precision={cfg.precision}"] if cfg.precision != "float32" else []
    same += [setting("calibration", from_here(path))] if path.is_file() else []
    return " ".join(["python -m pti.translate", ckpt, "input_dir=FOLDER", *same])


def complete_comparison(cfg: DictConfig) -> str | None:
    """Return the same evaluation of folders with what it lacks; None if it has everything.

    These are, in this order, the conditions, for the baselines; a second method; the training images, for the
    memorization audit.
    """
    folders, given = listed(cfg.prediction_dir), {key: cfg[key] for key in ("condition_dir", "training_dir")}
    if given["condition_dir"] is None:
        given["condition_dir"] = "FOLDER"
    elif len(folders) == 1:
        folders = [*folders, "FOLDER"]
    elif given["training_dir"] is None:
        given["training_dir"] = "FOLDER"
    else:
        return None
    predictions = f"prediction_dir=[{','.join(map(as_value, folders))}]"
    if len(folders) == 1:
        predictions = setting("prediction_dir", folders[0])
    settings = [setting(key, path) for key, path in given.items() if path is not None]
    same = [f"{key}={cfg[key]}" for key in ("pixel_mm", "data_range", "num_samples") if cfg[key] is not None]
    command = ["python -m pti.evaluate", predictions if len(folders) == 1 else shlex.quote(predictions)]
    return " ".join([*command, setting("target_dir", cfg.target_dir), *settings, *same])


def manifest_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that identify an evaluation; its output folder accepts no other."""
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    paths = [resolve(name) for name in listed(cfg.ckpt)] or [
        Path(name).absolute() for name in listed(cfg.prediction_dir)
    ]
    keys = _CHECKPOINT_KEYS if listed(cfg.ckpt) else _FOLDER_KEYS
    return {"command": "evaluate", "of": [str(path) for path in paths]} | {key: values[key] for key in keys}


if __name__ == "__main__":
    main()
