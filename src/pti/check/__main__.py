"""``python -m pti.check``: examine a data set, write a report, end with 1 when it can't be trained on."""

import shlex
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.common.errors import UsageError

_LISTED = 20


def preflight(cfg: DictConfig) -> None:
    """Refuse folders that are not there and settings out of range, before anything heavy is imported."""
    from pti.cli.overrides import require_folder

    data = cfg.data
    root = None if OmegaConf.is_missing(data, "root") else data.root
    if root is None or data.get("generate") is None:
        require_folder("data.root", root, "Set it to the folder that holds the images.")
    for key in ("val_root", "test_root"):
        if data[key] is not None:
            require_folder(f"data.{key}", data[key])
    if cfg.workers is not None and (not isinstance(cfg.workers, int) or cfg.workers < 1):
        raise UsageError(f"workers={cfg.workers}: expected a number of processes, 1 or more, or null.")


@command("check", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Check, write check.html, check.csv, pairs.csv and summary.json, and print the findings as a table."""
    from pti.check.full_check import full_check
    from pti.check.page import fault_table, write_report
    from pti.runs.summary import hash_file, print_summary, write_summary

    report = full_check(_source(cfg.data), cfg.workers)
    artefacts = write_report(report, output_dir)
    figures = {
        "pairs": len(report.facts),
        "patients": len({facts.pair.patient for facts in report.facts if facts.pair.patient}),
        "files": report.files,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "seconds": round(report.seconds, 1),
    }
    write_summary(
        output_dir,
        command="check",
        figures=figures,
        artefacts=artefacts,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
        data_fingerprint=hash_file(artefacts["pairs"]),
        status="finished",
    )
    fault_table(report, _LISTED)
    ready = shlex.join(["python", "-m", "pti.train", "experiment=vae_baseline", f"data.root={cfg.data.root}"])
    print_summary(f"Check of {cfg.data.root}", figures, artefacts, ready if report.usable else None)
    return 0 if report.usable else 1


def _source(data: DictConfig):
    from hydra.utils import instantiate

    from pti.check.full_check import DataSource

    root = Path(data.root).expanduser()
    if data.get("generate") is not None and not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        instantiate(data.generate)(root)
    return DataSource(
        root=root,
        layout=instantiate(data.layout),
        fractions=tuple(data.fractions),
        split_seed=data.split_seed,
        pixel_mm=data.pixel_mm,
        val_root=None if data.val_root is None else Path(data.val_root).expanduser(),
        test_root=None if data.test_root is None else Path(data.test_root).expanduser(),
        batch_size=data.batch_size,
    )


if __name__ == "__main__":
    main()
