"""``python -m pti.check``: check a data set, write a report, exit with 1 if training can't use it."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, is_overridden, require_above_zero, require_folder, require_in_range
from pti.common.path_settings import setting

_SOURCE_KEYS = ("split_seed", "pixel_mm", "batch_size", "sources", "subset", "allow_links")


def preflight(cfg: DictConfig) -> None:
    """Refuse missing folders and settings out of range before anything heavy is imported."""
    data = cfg.data
    root = None if OmegaConf.is_missing(data, "root") else data.root
    if root is None or data.get("generate") is None or is_overridden("data.root"):
        require_folder("data.root", root, "Set it to the folder that holds the images.")
    for key in ("val_root", "test_root"):
        if data[key] is not None:
            require_folder(f"data.{key}", data[key])
    require_in_range(cfg, {"workers": POSITIVE}, whole=True)
    require_above_zero(cfg, "data.pixel_mm")


@command("check", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Check the data set, write the report and summary.json, and print the findings as a table."""
    from pti.check.full_check import full_check
    from pti.check.page import print_findings, write_report
    from pti.common.files import hash_file
    from pti.runs.summary import print_summary, write_summary

    report = full_check(_source(cfg.data), cfg.workers)
    artefacts = write_report(report, output_dir)
    metrics = {**report.counts, "seconds": round(report.seconds, 1)}
    write_summary(
        output_dir,
        command="check",
        metrics=metrics,
        artefacts=artefacts,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
        data_fingerprint=hash_file(artefacts["pairs"]),
    )
    print_findings(report)
    train = f"python -m pti.train experiment=vae_baseline {setting('data.root', cfg.data.root)}"
    print_summary(f"Check of {cfg.data.root}", metrics, artefacts, train if report.usable else None)
    return 0 if report.usable else 1


def _source(data: DictConfig):
    from hydra.utils import instantiate

    from pti.data.checks.source import DataSource
    from pti.data.patient_split import fold_of

    root = Path(data.root)
    if data.get("generate") is not None and not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        instantiate(data.generate)(root)
    extra_roots = {split: data[f"{split}_root"] for split in ("val", "test")}
    return DataSource(
        root=root,
        layout=instantiate(data.layout),
        fractions=tuple(data.fractions),
        fold=fold_of(data.folds, data.fold),
        extra_roots={split: Path(folder) for split, folder in extra_roots.items() if folder},
        **{key: data[key] for key in _SOURCE_KEYS},
    )


if __name__ == "__main__":
    main()
