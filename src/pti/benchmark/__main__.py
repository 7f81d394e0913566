"""``python -m pti.benchmark suite=…``: the speed of this machine, compared with baseline implementations.

A suite of speeds is a function ``SuiteSettings -> comparisons`` in `SUITES`; one that measures something else
is a function ``SuiteSettings -> rows of the report`` in `STUDIES`. A comparison holds several ways to do the
same work; their runs are interleaved in one process, so that a busy moment affects all of them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pti.benchmark.comparison import Comparison, measure
from pti.benchmark.suites.check import check_suite
from pti.benchmark.suites.data import data_suite
from pti.benchmark.suites.ldm import ldm_suite
from pti.benchmark.suites.metrics import metrics_suite
from pti.benchmark.suites.robustness import robustness_suite
from pti.benchmark.suites.vae import vae_suite
from pti.benchmark.training import Experiment, SuiteSettings
from pti.cli.command import command
from pti.cli.path_values import quote_paths
from pti.cli.preflight import require_in_range, require_one_of

SUITES: dict[str, Callable[[SuiteSettings], list[Comparison]]] = {
    "data": data_suite,
    "vae": vae_suite,
    "ldm": ldm_suite,
    "metrics": metrics_suite,
}
STUDIES: dict[str, Callable[[SuiteSettings], list[dict[str, Any]]]] = {
    "check": check_suite,
    "robustness": robustness_suite,
}


def preflight(config: DictConfig) -> None:
    """Refuse an unknown suite and numbers that are too small to measure."""
    require_one_of(config, {"suite": [*SUITES, *STUDIES]})
    require_in_range(config, {"repeats": (1, None), "images": (8, None)})


@command("benchmark", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> None:
    """Run a suite, write ``benchmark.json`` and print a table."""
    import tempfile

    from pti.common.files import write_json_atomically
    from pti.common.progress import track
    from pti.runs.summary import package_versions, print_summary, write_summary

    with tempfile.TemporaryDirectory(prefix="pti-benchmark-") as scratch:
        settings = SuiteSettings(config.images, config.image_size, Path(scratch), _build)
        if config.suite in STUDIES:
            rows = STUDIES[config.suite](settings)
        else:
            comparisons = SUITES[config.suite](settings)
            rows = [row for each in track(comparisons, "Measuring") for row in measure(each, config.repeats)]
    artefacts = {"benchmark.json": output_dir / "benchmark.json"}
    report = {"suite": config.suite, "machine": _machine(), "versions": package_versions(), "results": rows}
    write_json_atomically(artefacts["benchmark.json"], report)
    metrics = {f"{row['what']}: {row['way']} [{row['unit']}]": row["median"] for row in rows}
    plain: Any = OmegaConf.to_container(config, resolve=True)
    write_summary(output_dir, command="benchmark", metrics=metrics, artefacts=artefacts, config=plain)
    described = {f"{row['what']}: {row['way']}": _describe(row) for row in rows}
    what = "" if config.suite in STUDIES else ": median (quartiles)"
    print_summary(f"Benchmark {config.suite}{what}", described, artefacts)


def _build(experiment: str, overrides: Sequence[str]) -> Experiment:
    """Build an experiment as `train` does."""
    from hydra import compose
    from hydra.utils import instantiate

    from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights

    overrides = quote_paths([f"experiment={experiment}", "output_dir=.", *overrides], sweep=False)
    composed = compose("train", overrides)
    config: Any = OmegaConf.to_container(composed, resolve=True)
    weights = embed_first_stage_config(config)
    data, module = instantiate(config["data"]), instantiate(config["model"])
    if weights is not None:
        load_first_stage_weights(module, weights)
    return Experiment(config, data, module)


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


def _describe(row: dict[str, Any]) -> str:
    if "quartiles" not in row:
        return f"{row['median']:.3g} {row['unit']}" + (f" of {row['of']}" if "of" in row else "")
    median, low, high = (
        f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}" for speed in (row["median"], *row["quartiles"])
    )
    return f"{median} ({low} to {high}) {row['unit']}, {row['times_plain']:.1f} × plain"


if __name__ == "__main__":
    main()
