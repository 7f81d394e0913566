"""Cross-validation of both stages: the autoencoder that was trained on a fold's patients."""

from pathlib import Path
from typing import Any

from pti.common.path_settings import expand_home
from pti.runs.locate import BEST, resolve
from pti.sweep.plan import job_name
from pti.sweep.record import SWEEP_FILE


def first_stage_of(config: Any) -> Path:
    """Return the checkpoint of the autoencoder that ``autoencoder_ckpt`` names.

    With ``data.folds``, the key may also name the folder of a sweep over ``data.fold``: each fold then gets
    the best.ckpt of its own job, which has not seen the patients that are held out.

    Args:
        config: ``conf/train.yaml``, composed.

    Raises:
        UsageError: The checkpoint does not exist.
    """
    name = str(config.autoencoder_ckpt)
    folder = Path(expand_home(name))
    if config.data.get("folds") is not None and (folder / SWEEP_FILE).is_file():
        return resolve(str(folder / job_name([f"data.fold={config.data.fold}"]) / "checkpoints" / BEST))
    return resolve(name)
