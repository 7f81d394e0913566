"""``python -m pti.benchmark suite=…``: the speed of this machine, against the plain way of doing a thing.

A suite is a function ``(config, scratch folder) -> comparisons`` in `SUITES`. A comparison holds ways of
doing the same work; their runs are interleaved in one process, so that a busy moment meets all of them.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pti.cli import command
from pti.errors import UsageError


@dataclass(frozen=True)
class Comparison:
    """Ways of doing the same work.

    Attributes:
        title: what is done.
        unit: of a speed, such as ``images/s``.
        amount: how many of them a run does.
        ways: name -> a run; the first is the plain way that others are compared with.
    """

    title: str
    unit: str
    amount: int
    ways: Mapping[str, Callable[[], object]]


def measure(comparison: Comparison, repeats: int) -> list[dict[str, Any]]:
    """Run every way ``repeats`` times, interleaved, after a run that isn't counted.

    Returns:
        For each way its median speed, the quartiles, and the median of the ratios to the plain way's
        neighbouring run.
    """
    speeds: dict[str, list[float]] = {name: [] for name in comparison.ways}
    for repeat in range(repeats + 1):
        for name, run in comparison.ways.items():
            start = time.perf_counter()
            run()
            if repeat:
                speeds[name].append(comparison.amount / (time.perf_counter() - start))
    plain = speeds[next(iter(speeds))]
    return [
        {
            "what": comparison.title,
            "way": name,
            "unit": comparison.unit,
            "median": statistics.median(values),
            "quartiles": statistics.quantiles(values, n=4)[::2] if repeats > 1 else [values[0]] * 2,
            "times_plain": statistics.median(one / other for one, other in zip(values, plain, strict=True)),
        }
        for name, values in speeds.items()
    ]


def data_suite(config: DictConfig, scratch: Path) -> list[Comparison]:
    """Files, cache and loader, on drawn images of ``image_size`` in uncompressed float32 files."""
    import numpy as np
    import tifffile
    import torch

    from pti.data import tif
    from pti.data.layouts import single_folder
    from pti.data.normalization import RangeNormalization
    from pti.modules.tif_data import TifDataModule

    torch.set_num_threads(1)  # one process's work; more threads only wait for each other here
    generator = np.random.default_rng(0)
    size, paths = config.image_size, []
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    (scratch / "images").mkdir()
    for number in range(config.images):
        paths.append(scratch / "images" / f"0_HA_2021_02_{number}.tif")
        tif.write(paths[-1], (np.hypot(2 * x, y) < 0.8) * generator.uniform(500, 3000, (size, size)), 0.15)
    options = {"fractions": (1, 0, 0), "sources": "target", "image_size": size, "num_workers": 0}
    data = TifDataModule(scratch / "images", single_folder, cache_dir=scratch / "cache", **options)
    data.prepare_data()
    data.setup("fit")
    normalization = RangeNormalization()
    normalization.fit(data.training_images())
    low, high = (float(bound) for bound in normalization.bounds[:2])

    def plain() -> None:
        for start in range(0, len(paths), data.batch_size):
            items = []
            for path in paths[start : start + data.batch_size]:
                raw = tifffile.imread(path)
                image = np.where(raw != 0, 1.8 * (raw - low) / (high - low) - 0.8, -1)
                items.append(torch.from_numpy(image.astype(np.float32))[None])
            torch.stack(items)

    def cached(normalize: bool) -> None:
        served = 0
        for batch in data.train_dataloader():
            served += len(batch["image"])
            if normalize:
                normalization.normalize(batch["image"], normalization.statistics(batch["image"]))
        assert served == len(paths)

    epoch = {
        "tifffile.imread, normalise, stack": plain,
        "cache": lambda: cached(False),
        "cache, normalise on the CPU": lambda: cached(True),
    }
    files = {
        "tifffile.imread": lambda: [tifffile.imread(path) for path in paths],
        "pti.data.tif.read": lambda: [tif.read(path) for path in paths],
        "pti.data.tif.inspect": lambda: [tif.inspect(path) for path in paths],
    }
    amount = len(paths)
    return [
        Comparison("one epoch", "images/s", amount, epoch),
        Comparison("reading files", "images/s", amount, files),
    ]


Suite = Callable[[DictConfig, Path], list[Comparison]]

SUITES: dict[str, Suite] = {"data": data_suite}


def preflight(config: DictConfig) -> None:
    """Refuse an unknown suite and numbers that make no measurement."""
    if config.suite not in SUITES:
        raise UsageError(f"suite={config.suite}: unknown. There is: {', '.join(SUITES)}.")
    if config.repeats < 1 or config.images < 8:
        raise UsageError(f"repeats={config.repeats}, images={config.images}: expected 1 and 8 at least.")


@command("benchmark", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> None:
    """Measure a suite, write ``benchmark.json`` and print a table."""
    import json
    import tempfile

    from omegaconf import OmegaConf

    from pti.progress import track
    from pti.summary import package_versions, print_summary, write_summary, write_text_atomically

    with tempfile.TemporaryDirectory(prefix="pti-benchmark-") as scratch:
        comparisons = SUITES[config.suite](config, Path(scratch))
        rows = [row for each in track(comparisons, "Measuring") for row in measure(each, config.repeats)]
    artefacts = {"benchmark.json": output_dir / "benchmark.json"}
    report = {"suite": config.suite, "machine": _machine(), "versions": package_versions(), "results": rows}
    write_text_atomically(artefacts["benchmark.json"], json.dumps(report, indent=2) + "\n")
    figures = {f"{row['what']}: {row['way']} [{row['unit']}]": row["median"] for row in rows}
    plain: Any = OmegaConf.to_container(config, resolve=True)
    write_summary(output_dir, command="benchmark", figures=figures, artefacts=artefacts, config=plain)
    _print_table(rows)
    print_summary(f"Benchmark {config.suite}", {}, artefacts)


def _machine() -> dict[str, Any]:
    import os
    import platform

    import torch

    from pti.data.loader import usable_cpus

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": usable_cpus(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "way", "median", "quartiles", "unit", "× plain")
    for column in (2, 3, 5):
        table.columns[column].justify, table.columns[column].no_wrap = "right", True
    for row in rows:
        low, high = row["quartiles"]
        speeds = (
            f"{row['median']:,.0f}",
            f"{low:,.0f} to {high:,.0f}",
            row["unit"],
            f"{row['times_plain']:.1f}",
        )
        table.add_row(row["what"], row["way"], *speeds)
    Console().print(table)


if __name__ == "__main__":
    main()
