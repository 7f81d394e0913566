"""``python -m pti.benchmark suite=…``: the speed of this machine, against the plain way of doing a thing.

A suite is a function ``(config, scratch folder) -> comparisons`` in `SUITES`. A comparison holds ways of
doing the same work; their runs are interleaved in one process, so that a busy moment meets all of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pti.benchmark.comparison import Comparison, measure
from pti.benchmark.suites.data import data_suite
from pti.benchmark.suites.ldm import ldm_suite
from pti.benchmark.suites.metrics import metrics_suite
from pti.benchmark.suites.vae import vae_suite
from pti.cli.command import command
from pti.common.errors import UsageError

Suite = Callable[[DictConfig, Path], list[Comparison]]

SUITES: dict[str, Suite] = {
    "data": data_suite,
    "vae": vae_suite,
    "ldm": ldm_suite,
    "metrics": metrics_suite,
}


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

    from pti.common.files import write_text_atomically
    from pti.common.progress import track
    from pti.runs.summary import package_versions, print_summary, write_summary

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

    from pti.common.processes import usable_cpus

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
            _number(row["median"]),
            f"{_number(low)} to {_number(high)}",
            row["unit"],
            f"{row['times_plain']:.1f}",
        )
        table.add_row(row["what"], row["way"], *speeds)
    Console().print(table)


def _number(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


if __name__ == "__main__":
    main()
