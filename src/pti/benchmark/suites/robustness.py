"""Suite ``robustness``: how often stage 1 collapses, and how well it ends, on randomly drawn scanners.

``experiment=vae_demo`` is trained at 64 pixels for 400 steps, on each set with two seeds, with the default
reconstruction loss (l2) and with the mean absolute error (l1). An image is mostly background, so that an
image of background only is a local optimum of l1: its gradient pushes every pixel that isn't quite background
there with the same force. The gradient of l2 vanishes there.

On 20 scanners (``images=1000``), l2 collapsed in none of 40 runs; Dice of the bone was 0.978 in the median
and 0.935 at worst, after these 400 steps of 64-pixel images.
"""

import json
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

from pti.benchmark.settings import SuiteSettings

ALL_PAIRS = 200  # by default
PAIRS = 50  # in a set, each of a different patient
SEEDS = (0, 1)
LOSSES = ("l2", "l1")
SHOWN = {"bone_dice": "Dice", "bone_height_error_mm": "mm", "psnr": "dB"}
"""Metric of the validation -> its unit."""
TRAINING = (
    "experiment=vae_demo",
    "data=tif",
    "data.image_size=64",
    "data.fractions=[0.8,0.2,0]",
    "data.num_workers=0",
    "trainer.max_epochs=10",  # of 40 steps
    "trainer.check_val_every_n_epoch=10",
    "callbacks.pictures=null",
    "stop_on_collapse=false",
)


def robustness_suite(settings: SuiteSettings) -> list[dict[str, Any]]:
    """Train on one set for every 50 of ``settings.images`` pairs, each from another scanner.

    Returns:
        For each run, metrics of its only validation, the last; for all runs with a loss, the number of
        collapsed ones, and the worst and the median of each metric.
    """
    from pti.common.progress import track
    from pti.data.phantom import make_phantom
    from pti.data.phantom.style import random_style

    runs: dict[str, list[dict[str, Any]]] = {loss: [] for loss in LOSSES}
    rows: list[dict[str, Any]] = []
    for style in track(range(max(1, settings.number_of_images(ALL_PAIRS) // PAIRS)), "Training on sets"):
        folder = settings.scratch / f"set_{style}"
        make_phantom(folder, PAIRS, 1, 128, seed=style, style=random_style(style))
        for seed, loss in product(SEEDS, LOSSES):
            summary = train_on(folder, settings.scratch, f"seed={seed}", f"model/reconstruction={loss}")
            runs[loss].append(summary)
            what = f"style=random seed={style}, trained by {loss}, seed={seed}"
            rows += [_row(what, name, summary["figures"][f"best/val/{name}"]) for name in SHOWN]
    for loss, summaries in runs.items():
        what = f"all sets, {loss}"
        collapsed = sum(bool(summary["collapsed"]) for summary in summaries)
        row = {"what": what, "way": "collapsed", "unit": "runs", "median": collapsed, "of": len(summaries)}
        rows.append(row)
        for name in SHOWN:
            values = [summary["figures"][f"best/val/{name}"] for summary in summaries]
            worst = max(values) if name.endswith("error_mm") else min(values)
            rows += [_row(f"{what}, worst", name, worst), _row(what, name, statistics.median(values))]
    return rows


def _row(what: str, name: str, value: float) -> dict[str, Any]:
    return {"what": what, "way": name, "unit": SHOWN[name], "median": value}


def train_on(root: Path, scratch: Path, *overrides: str) -> dict[str, Any]:
    """Train on a set by the command itself and return the run's summary.

    Raises:
        RuntimeError: the training ended with an error.
    """
    output_dir = scratch / "runs" / "-".join([root.name, *overrides]).replace("/", "_")
    folders = [f"data.root={root}", f"data.cache_dir={scratch / 'cache'}", f"output_dir={output_dir}"]
    command = [sys.executable, "-m", "pti.train", *TRAINING, *folders, *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads((output_dir / "summary.json").read_text(encoding="utf-8"))
