"""What a run leaves beside its configuration, so that it can be repeated: environment and split."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import distributions
from pathlib import Path

import torch

from pti.common.files import write_text_atomically
from pti.common.tables import write_csv
from pti.modules.tif_data import TifDataModule
from pti.runs.arguments import typed_arguments

ENVIRONMENT, SPLIT = "environment.txt", "split.csv"


def write_record(folder: Path, datamodule: TifDataModule) -> None:
    """Write ``environment.txt`` and ``split.csv`` into the folder of a run.

    The first holds the command, the machine and the version of each installed package, in a fixed order, so
    that two runs can be compared with ``diff``; the second the split, patient and files of each sample.
    """
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    described = [found.metadata for found in distributions()]  # read once; this takes long for many packages
    packages = {str(metadata["Name"]): metadata["Version"] for metadata in described}
    lines = [
        f"command: python -m pti.train {shlex.join(typed_arguments())}",
        f"python: {platform.python_version()}",
        f"system: {platform.system()} {platform.release()} {platform.machine()}",
        f"gpus: {', '.join(gpus) or 'none'}",
        f"cuda: {torch.version.cuda or 'none'}",
        "",
        *(f"{name}=={packages[name]}" for name in sorted(packages, key=str.lower)),
    ]
    write_text_atomically(folder / ENVIRONMENT, "\n".join(lines) + "\n")
    rows = datamodule.split_rows()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(folder / SPLIT, columns, rows)
