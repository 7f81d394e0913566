"""Suite ``startup``: the time until a command does something, each measured in a separate process."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial

from pti.benchmark.comparison import Comparison, Side, Work
from pti.benchmark.experiments import draw_pairs
from pti.benchmark.settings import SuiteSettings

PLAIN = """
import argparse
import lightning
import monai
import torch
argparse.ArgumentParser().parse_args(["--help"])
"""
"""A script that imports its libraries first, as is common."""


def startup_suite(settings: SuiteSettings) -> list[Comparison]:
    """Compare the package's import and the help of `train` with a plain script; time a whole `translate`."""
    plain = Side("plain: torch, lightning, monai, --help", partial(_work, ["-c", PLAIN]))
    ours = [
        Side("pti: pti train --help", partial(_work, ["-m", "pti", "train", "--help"])),
        Side("pti: import pti", partial(_work, ["-c", "import pti"])),
    ]
    translation = Side("pti: pti translate, one image", partial(_translation, settings))
    return [
        Comparison("startup", "start of a program", 1, ours, plain, "command"),
        Comparison("startup", "a whole translation", 1, [translation], None, "command"),
    ]


def _work(arguments: list[str]) -> Work:
    command = [sys.executable, *arguments]
    return Work(partial(_run, command), command=command)


def _run(command: list[str]) -> None:
    """Run a command.

    Raises:
        RuntimeError: It ended with an error.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _translation(settings: SuiteSettings) -> Work:
    """Build the translation of one phantom image by the checkpoint, or by ``ldm_demo`` untrained."""
    from pti.benchmark.suites.translate import save_stage_2

    images = draw_pairs(settings.scratch / "one_pair", 128, 1) / "dente"
    checkpoint = settings.ckpt or save_stage_2(settings, "ldm_demo", 128)
    command = [
        *(sys.executable, "-m", "pti", "translate", f"ckpt={checkpoint}"),
        *(f"input_dir={images}", f"accelerator={settings.accelerator}", "devices=1", "samples=1"),
    ]
    numbers = itertools.count()

    def run() -> None:
        _run([*command, f"output_dir={settings.scratch / f'startup_{next(numbers)}'}"])

    return Work(run, command=[*command, f"output_dir={settings.scratch / 'startup'}"])
