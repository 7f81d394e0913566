"""Checks of the composed configuration before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pti.cli.preflight import require_file, require_folder, require_one_of
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import UsageError
from pti.common.path_settings import literal
from pti.train.batch_size import AUTO
from pti.train.devices import started_from_outside

_LOGGER_PACKAGES = {"MLflow": "mlflow", "MLFlowLogger": "mlflow", "Wandb": "wandb", "WandbLogger": "wandb"}
"""Class of a logger -> the package that it needs, which is also the name of the extra."""


_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "32", "bf16", "16", "64", "None")
"""Values of ``trainer.precision``, the recommended ones first; the last ones are Lightning's synonyms."""


def check_config(config: Any, root_is_named: bool) -> None:
    """Refuse settings that are bound to fail.

    Args:
        config: ``conf/train.yaml``, composed.
        root_is_named: whether the user has set ``data.root``; such a folder is never generated.

    Raises:
        UsageError: no experiment, a value that training cannot use, a missing package, folder or checkpoint.
    """
    if "_target_" not in (config.get("model") or {}):
        experiments = ", ".join(sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")))
        raise UsageError(f"experiment is not set: expected experiment=NAME, one of {experiments}.")
    require_one_of(config, {"resume": (None, "auto")})
    precision = str(config.trainer.get("precision"))
    if precision not in _PRECISIONS:
        raise UsageError(
            f"trainer.precision={precision}: the networks are not trained in this precision. Expected one of "
            f"{', '.join(_PRECISIONS[:4])}; bf16-mixed needs half the memory."
        )
    if config.data.get("batch_size") == AUTO and (
        started_from_outside() or config.data.get("subset") == AUTO
    ):
        reason = (
            "each process of torchrun or SLURM would measure for itself"
            if started_from_outside()
            else "debug=overfit trains on one batch"
        )
        raise UsageError(f"data.batch_size=auto: {reason}. Set data.batch_size=8, or another number.")
    strategy = config.trainer.get("strategy", "auto")
    if isinstance(strategy, str) and strategy not in ("auto", "ddp"):
        raise UsageError(
            f"trainer.strategy={strategy}: expected auto or ddp (one process for each device, each with all "
            "weights)."
        )
    require_file("model.attributes.table", (config.model.get("attributes") or {}).get("table"))
    workers = config.data.get("num_workers", "auto")
    if workers != "auto" and not (isinstance(workers, int) and workers >= 0):
        raise UsageError(f"data.num_workers={workers}: expected auto or a whole number, 0 or more.")
    for key in ("gradient_clip_val", "accumulate_grad_batches"):
        if config.trainer.get(key) not in (None, 1):
            raise UsageError(
                f"trainer.{key}={config.trainer[key]}: Lightning does not support this for models that call "
                f"their optimizers themselves, as all models here do. Set model.{key} instead."
            )
    for logger in (config.get("logger") or {}).values():
        package = _LOGGER_PACKAGES.get(str((logger or {}).get("_target_", "")).split(".")[-1])
        if package and importlib.util.find_spec(package) is None:
            raise UsageError(f"logger={package} needs the package {package}: pip install 'pti[{package}]'.")
    output_dir = Path(config.output_dir).absolute()
    for key, path in (("data.root", config.data.get("root")), ("output_dir", output_dir)):
        if "${" in str(path):
            raise UsageError(
                f"{key}={path}: training can't use a path that contains '${{'. Rename the folder, or create "
                "a link to it that has another name."
            )
    if root_is_named or config.data.get("generate") is None:
        require_folder("data.root", config.data.get("root"))


def to_overrides(values: Mapping[str, str | Path]) -> list[str]:
    """Format overrides for Hydra's command line; paths are quoted and escaped."""
    return [f"{key}={literal(value) if isinstance(value, Path) else value}" for key, value in values.items()]
