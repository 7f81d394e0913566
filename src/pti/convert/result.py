"""What a conversion writes and prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pti.common.files import write_text_atomically
from pti.common.path_settings import setting
from pti.convert.experiment import Experiment
from pti.runs.summary import from_here, print_summary, write_summary


@dataclass
class Result:
    """Files and figures of a conversion.

    Attributes:
        experiments: Name -> file.
        checkpoint: The converted checkpoint; None = no weights were given.
        figures: What is known of it.
        warnings: Sentences for the summary.
    """

    experiments: dict[str, Path]
    checkpoint: Path | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def write_experiments(
    output_dir: Path, experiments: Mapping[str, Experiment], origin: str
) -> dict[str, Path]:
    """Write ``experiment/NAME.yaml`` for each experiment, and return the files by name."""
    files = {name: output_dir / "experiment" / f"{name}.yaml" for name in experiments}
    for name, experiment in experiments.items():
        write_text_atomically(files[name], experiment.to_yaml(origin))
    return files


def finish(output_dir: Path, experiments: Mapping[str, Experiment], result: Result) -> None:
    """Write ``summary.json``, print the table, the differences and the next command."""
    notes = list(dict.fromkeys(note for experiment in experiments.values() for note in experiment.notes))
    artefacts: dict[str, Path | str] = {
        f"experiment {name}": path for name, path in result.experiments.items()
    }
    if result.checkpoint is not None:
        artefacts["checkpoint"] = result.checkpoint
    write_summary(
        output_dir,
        command="convert",
        metrics=result.figures,
        artefacts=artefacts,
        checkpoint=result.checkpoint,
        warnings=[*notes, *result.warnings],
    )
    for note in notes:
        print(f"Note: {note}")
    if result.checkpoint is None:
        name = next(iter(experiments))
        folder = shlex.quote(str(from_here(output_dir)))
        following = f"python -m pti.train --config-dir {folder} experiment={name}"
    else:
        verb = "reconstruct" if result.figures["stage"] == 1 else "translate"
        checkpoint = setting("ckpt", from_here(result.checkpoint))
        following = f"python -m pti.{verb} {checkpoint} {_input_dir(experiments, result.figures['stage'])}"
    print_summary("convert", result.figures, artefacts, following)


def _input_dir(experiments: Mapping[str, Experiment], stage: int) -> str:
    """Return ``input_dir=`` with a folder of the data set, if that exists here."""
    roots = [experiment.values["data"].get("root") for experiment in experiments.values()]
    for root in filter(None, roots):
        folder = Path(root) / ("edente" if stage == 1 else "dente")
        if folder.is_dir():
            return setting("input_dir", from_here(folder))
    return "input_dir=FOLDER"
