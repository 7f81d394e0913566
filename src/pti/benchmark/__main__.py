"""``python -m pti.benchmark suite=…``: our defaults timed against the plain recipe, on the device there is.

The plain recipe is the loop that common scripts run: float32, no channels_last, no compilation, TIFs decoded
in each epoch, the encoder in each step of stage 2, cross-attention over all positions, DDPM with 1000 steps.

A suite of speeds is a function ``SuiteSettings -> comparisons`` in `SUITES`; one that measures something else
is a function ``SuiteSettings -> rows of the report`` in `STUDIES`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.benchmark.settings import Experiment, SuiteSettings
from pti.cli.command import command
from pti.cli.path_values import quote_paths
from pti.cli.preflight import SPLITS, require_in_range, require_one_of
from pti.common.errors import UsageError
from pti.runs.arguments import typed_arguments

if TYPE_CHECKING:
    from pti.benchmark.comparison import Comparison, Peak, Side, Work
    from pti.benchmark.report import Report

SUITES = ("data", "vae", "ldm", "translate", "startup", "evaluate")
STUDIES = ("check", "robustness", "steps")
ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")


def preflight(config: DictConfig) -> None:
    """Refuse unknown suites, a missing checkpoint, and numbers that are too small to measure."""
    from pti.runs.locate import resolve

    require_one_of(
        config, {"suite": ["all", *SUITES, *STUDIES], "split": SPLITS, "accelerator": ACCELERATORS}
    )
    positive = dict.fromkeys(("repeats", "batch_size", "steps", "translations"), (1, None))
    ranges = {"images": (8, None), "image_size": (32, 1024), "plain_steps": (2, 1000)}
    require_in_range(config, positive | ranges, whole=True)
    if config.image_size % 32:
        raise UsageError(f"image_size={config.image_size}: expected a multiple of 32, such as 256.")
    if config.ckpt is not None:
        resolve(str(config.ckpt))
    elif config.suite == "steps":
        raise UsageError("ckpt=null: suite=steps expects a trained stage 2, such as ckpt=best:ldm_demo.")


@command("benchmark", preflight=preflight)
def main(config: DictConfig, output_dir: Path) -> None:
    """Run the suites; write ``benchmark.json``, ``benchmark.md`` and ``benchmark.png`` after each of them."""
    import tempfile

    from pti.benchmark.following import following_command
    from pti.runs.summary import print_summary, write_summary

    plain: Any = OmegaConf.to_container(config, resolve=True)
    with tempfile.TemporaryDirectory(prefix="pti-benchmark-") as scratch:
        settings = _settings(config, Path(scratch))
        if config.suite in STUDIES:
            metrics, files = _run_study(config.suite, settings, output_dir)
            write_summary(output_dir, command="benchmark", metrics=metrics, artefacts=files, config=plain)
            print_summary(f"Benchmark {config.suite}", metrics, files, following_command(plain, []))
            return
        names = SUITES if config.suite == "all" else [config.suite]
        report = _start_report(settings)
        status, files = "interrupted", {}
        try:
            for number, name in enumerate(names, start=1):
                title = f"{name} ({number}/{len(names)})"
                report = _run_suite(name, title, settings, config.repeats, report, config.memory)
                files = report.write(output_dir)
            status = "finished"
        except Exception:
            status = "failed"
            raise
        finally:
            metrics = {
                f"{record.work}: {record.side} [ms per {record.item}]": record.ms for record in report.records
            }
            summary = {"metrics": metrics, "artefacts": files, "config": plain, "status": status}
            write_summary(output_dir, command="benchmark", **summary)
            if report.records:
                report.print()
                following = following_command(plain, report.records) if status == "finished" else None
                counts = {"status": status, "comparisons": len(metrics)}
                print_summary("Benchmark", counts, files, following)


def _settings(config: DictConfig, scratch: Path) -> SuiteSettings:
    names = ("images", "image_size", "batch_size", "steps", "ckpt", "split", "translations", "plain_steps")
    values: dict[str, Any] = {name: config[name] for name in names}
    settings = SuiteSettings(scratch, build, config.accelerator, **values)
    _ = settings.device  # refuses an accelerator that this machine does not have
    return settings


def _start_report(settings: SuiteSettings) -> "Report":
    from pti.benchmark.device import describe_machine, matmul_rates
    from pti.benchmark.report import Report
    from pti.runs.summary import package_versions

    command_line = " ".join(["python -m pti.benchmark", *typed_arguments()])
    machine = describe_machine(settings.device)
    return Report(command_line, machine, package_versions(), matmul_rates(settings.device), [])


def _run_suite(
    name: str, title: str, settings: SuiteSettings, repeats: int, report: "Report", memory: bool
) -> "Report":
    """Measure all comparisons of a suite and return the report with their records."""
    from dataclasses import replace
    from functools import partial

    from pti.benchmark.comparison import Measurement
    from pti.common.progress import track

    measurements = [
        Measurement(
            comparison,
            repeats,
            settings.device,
            partial(_measure_peak, name, settings, index) if memory else None,
        )
        for index, comparison in enumerate(_comparisons(name, settings))
    ]
    tasks = [task for measurement in measurements for task in measurement.tasks()]
    for task in track(tasks, title):
        task()
    records = [record for measurement in measurements for record in measurement.records(report.matmul)]
    return replace(report, records=[*report.records, *records])


def _comparisons(name: str, settings: SuiteSettings) -> "list[Comparison]":
    from importlib import import_module

    return getattr(import_module(f"pti.benchmark.suites.{name}"), f"{name}_suite")(settings)


def _measure_peak(name: str, settings: SuiteSettings, comparison: int, side: "Side", work: "Work") -> "Peak":
    """Run a side once in a separate process and return its peak memory."""
    import json
    import tempfile

    from pti.benchmark.comparison import Peak
    from pti.benchmark.device import peak_process_mb

    if work.command is not None:
        return Peak(peak_process_mb(work.command))
    values = {key: value for key, value in vars(settings).items() if key not in ("scratch", "build")}
    with tempfile.TemporaryDirectory(dir=settings.scratch) as folder:
        answer = Path(folder, "answer.json")
        given = {"suite": name, "comparison": comparison, "side": side.name, "settings": values}
        arguments = json.dumps(given | {"scratch": str(settings.scratch), "answer": str(answer)})
        code = "import sys; from pti.benchmark.__main__ import report_peak; report_peak(sys.argv[1])"
        process_mb = peak_process_mb([sys.executable, "-c", code, arguments])
        return Peak(process_mb, json.loads(answer.read_text()))


def report_peak(arguments: str) -> None:
    """Run one side once and write the peak of its GPU memory; the main function of a child process.

    Args:
        arguments: JSON with the suite, the index of the comparison, the side, the settings and their scratch
            folder, and the file to write.
    """
    import json

    from hydra import initialize_config_dir

    from pti.benchmark.device import peak_gpu_mb
    from pti.common.conf_dir import CONF_DIR

    given = json.loads(arguments)
    settings = SuiteSettings(Path(given["scratch"]), build, **given["settings"])
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        sides = _comparisons(given["suite"], settings)[given["comparison"]].sides
        next(side for side in sides if side.name == given["side"]).build().run()
    Path(given["answer"]).write_text(json.dumps(peak_gpu_mb()))


def _run_study(
    name: str, settings: SuiteSettings, output_dir: Path
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Run a study, write its rows as ``benchmark.json`` and return its metrics and its file."""
    from importlib import import_module

    from pti.benchmark.device import describe_machine
    from pti.common.files import write_json_atomically
    from pti.runs.summary import package_versions

    rows = getattr(import_module(f"pti.benchmark.suites.{name}"), f"{name}_suite")(settings)
    files = {"benchmark.json": output_dir / "benchmark.json"}
    machine = describe_machine(settings.device)
    report = {"suite": name, "machine": machine, "versions": package_versions(), "results": rows}
    write_json_atomically(files["benchmark.json"], report)
    return {f"{row['what']}: {row['way']} [{row['unit']}]": row["median"] for row in rows}, files


def build(experiment: str, overrides: Sequence[str]) -> Experiment:
    """Build an experiment as `train` does."""
    from hydra import compose
    from hydra.utils import instantiate

    from pti.runs.first_stage import embed_first_stage_config, load_first_stage_weights

    overrides = quote_paths([f"experiment={experiment}", "output_dir=.", *overrides], sweep=False)
    composed = compose("train", overrides)
    config: Any = OmegaConf.to_container(composed, resolve=True)
    weights = embed_first_stage_config(config)
    data, module = (instantiate(config[key], _convert_="all") for key in ("data", "model"))
    if weights is not None:
        load_first_stage_weights(module, weights)
    return Experiment(config, data, module)


if __name__ == "__main__":
    main()
