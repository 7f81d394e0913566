"""``python -m pti.tune``: search for good values of chosen keys of a training, with Optuna."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, is_overridden, require_folder, require_in_range, require_one_of
from pti.common.errors import UsageError
from pti.common.path_settings import literal, setting
from pti.tune.configuration import options_of_groups, read_settings, try_space
from pti.tune.settings import STUDY_FILE, is_same, read_record, require_same, write_record

if TYPE_CHECKING:
    from pti.tune.settings import TuneSettings


def preflight(config: DictConfig) -> list[str]:
    """Check the settings and the space, and find an interrupted search to continue."""
    if find_spec("optuna") is None or find_spec("sqlalchemy") is None:
        raise UsageError("tune needs the package optuna: python -m pip install 'pti[tune]'.")
    _check_values(config)
    settings = _settings(config)
    with _hydra_set_aside():
        try_space(settings)
    folder = Path(str(config.output_dir))
    if not is_overridden("output_dir"):
        earlier = _interrupted(folder.parent, settings)
        if earlier is None:
            return []
        print(f"Continuing {earlier}, which was interrupted.", flush=True)
        return [f"output_dir={literal(earlier)}"]
    record = read_record(folder)
    if record is not None:
        require_same(folder, record, settings, _data_state(settings))
    elif (folder / "summary.json").exists():
        raise UsageError(
            f"{setting('output_dir', folder)}: found the results of another command there. Choose another "
            "output_dir."
        )
    return []


@command("tune", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> int:
    """Run the trials that are left, and write the tables, the page and the best experiment."""
    from pti.runs.lock import exclusive
    from pti.tune.progress import TrialProgress
    from pti.tune.report import write_report
    from pti.tune.results import best_value
    from pti.tune.runner import Runner
    from pti.tune.search import Search
    from pti.tune.slots import environments

    settings = _settings(config)
    message = f"{output_dir}: another process runs this search. Wait for it, or choose another output_dir."
    with exclusive(output_dir, message, UsageError):
        record = read_record(output_dir) or {"data_state": None}
        if "settings" in record:
            require_same(output_dir, record, settings, _data_state(settings))
        write_record(output_dir, settings, record["data_state"] or _data_state(settings))
        search = Search(output_dir, settings)
        places = environments(config.jobs, settings.training["trainer"])
        ended = sum(trial.state.is_finished() for trial in search.trials)
        print(f"Search in {output_dir}: {_count(ended, settings.trials)}.", flush=True)
        best = best_value(search, settings)
        progress = TrialProgress(settings.objectives, settings.trials, ended, len(places), best)
        status = "failed"
        try:
            stopped = Runner(search, settings, output_dir, places, progress).run()
            status = "finished" if stopped is None else "interrupted"
        finally:
            write_record(output_dir, settings, record["data_state"] or _data_state(settings))
            write_report(output_dir, search, settings, status)
    return stopped or 0


@contextmanager
def _hydra_set_aside() -> Iterator[None]:
    """Let the block compose other configurations; restore this command's own when it ends."""
    composer, composed = GlobalHydra.instance(), HydraConfig.instance()
    before = composer.hydra, composed.cfg
    composer.clear()
    try:
        yield
    finally:
        composer.hydra, composed.cfg = before


def _check_values(config: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UsageError("-m: tune tries several values by itself; give them in space, without -m.")
    if "_target_" not in (config.get("model") or {}):
        names = ", ".join(options_of_groups()["experiment"])
        raise UsageError(f"experiment is not set: expected experiment=NAME, one of {names}.")
    require_one_of(config, {"method": ("tpe", "random"), "pruning": ("auto", "median", "none")})
    counts = ("trials", "random_trials", "prune_after_trials", "prune_after_epochs")
    for key in counts:
        if config[key] is None:
            raise UsageError(f"{key}=null: expected a whole number, 1 or more.")
    require_in_range(config, dict.fromkeys(counts, POSITIVE), whole=True)
    if config.jobs != "auto":
        require_in_range(config, {"jobs": (1, 256)}, whole=True)
    if is_overridden("data.root") or config.data.get("generate") is None:
        require_folder("data.root", config.data.get("root"))


def _settings(config: DictConfig) -> TuneSettings:
    """Read the settings; values that contain the folder are the same in every folder."""
    placed = config.copy()
    with open_dict(placed):
        placed.output_dir = "."
    plain: Any = OmegaConf.to_container(placed, resolve=True)
    hydra = HydraConfig.get()
    experiment = hydra.runtime.choices.get("experiment")
    return read_settings(plain, list(hydra.overrides.task), experiment, config.seed)


def _interrupted(folder: Path, settings: TuneSettings) -> Path | None:
    """Return the newest search below a folder that has the same settings and is not finished."""
    import json

    for file in sorted(folder.glob(f"*/{STUDY_FILE}"), reverse=True):
        record = read_record(file.parent)
        try:
            status = json.loads((file.parent / "summary.json").read_text(encoding="utf-8")).get("status")
        except (OSError, ValueError):
            status = None
        if status != "finished" and record is not None and is_same(record, settings):
            return file.parent
    return None


def _data_state(settings: TuneSettings) -> str | None:
    from pti.sweep.record import data_state

    return data_state(settings.data_roots)


def _count(ended: int, trials: int) -> str:
    if ended >= trials:
        return f"all {ended} trials are done; the report is written again (a higher trials= adds some)"
    return f"continued, {ended} of {trials} trials are done" if ended else f"{trials} trials"


if __name__ == "__main__":
    main()
