"""``python -m pti.analyze``: draw and measure a VAE's latent space, as figures, tables and one page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import SPLITS, require_checkpoint_and_images, require_in_range, require_one_of
from pti.common.errors import UsageError
from pti.common.path_settings import setting
from pti.latent_study.options import COLORS, METHODS, RANGES
from pti.runs.arguments import typed_arguments
from pti.runs.locate import checkpoint_names

if TYPE_CHECKING:
    from pti.latent_study.projection import Projection
    from pti.latent_study.study import LatentStudy
    from pti.latent_study.tables import StudyTables

FIGURE, ATLAS, LATENTS, TENSORBOARD = "projection.png", "projection.html", "latents.npz", "tensorboard"
WALKS = "walks.png"


def preflight(cfg: DictConfig) -> None:
    """Refuse invalid settings before anything heavy is imported."""
    require_checkpoint_and_images(cfg)
    require_one_of(
        cfg, {"split": (*SPLITS, "all"), "color_by": COLORS, "method": METHODS, "atlas_methods": METHODS}
    )
    require_in_range(cfg, {**RANGES, "dpi": (72, 1200)})


@command("analyze", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Encode the images, project and measure their latents, and write the results."""
    from pti.inference.following import data_arguments
    from pti.latent_study.attributes import study_attributes
    from pti.latent_study.latents import save_latents
    from pti.latent_study.projection import principal_components
    from pti.latent_study.study import StudySettings, open_study, project_all
    from pti.latent_study.tables import key_metrics, tabulate, write_tables
    from pti.runs.summary import print_summary, write_summary

    refuse_foreign_files(output_dir)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = StudySettings.from_config(config)
    study = open_study(settings, output_dir)
    components = principal_components(study.latents.flat, cfg.seed)
    projections = project_all(settings, components, cfg.atlas_methods)
    attributes = study_attributes(study)
    tables = tabulate(study.latents, components, attributes)
    artefacts = draw(cfg, output_dir, study, projections, tables)
    artefacts["latents"] = output_dir / LATENTS
    save_latents(study.latents, artefacts["latents"])
    artefacts |= write_tables(tables, output_dir)
    (output_dir / WALKS).unlink(missing_ok=True)  # may be left from an earlier run
    if attributes.walks:
        from pti.latent_study.walk_figure import draw_walks

        artefacts["walks"] = output_dir / WALKS
        draw_walks(artefacts["walks"], attributes.walks)
    if cfg.tensorboard:
        from pti.latent_study.projector import write_projector

        artefacts["tensorboard"] = output_dir / TENSORBOARD
        write_projector(artefacts["tensorboard"], study.latents, study.images, components.scores)
    metrics = {"images": len(study.images), "images are": study.origin, "method": METHODS[cfg.method]}
    metrics |= key_metrics(tables)
    write_summary(
        output_dir,
        command="analyze",
        metrics=metrics,
        artefacts=artefacts,
        config=config,
        data_fingerprint=study.fingerprint,
        checkpoint=study.checkpoint,
        seed=cfg.seed,
    )
    images = data_arguments(study.checkpoint.config["data"], typed_arguments())
    if cfg.input_dir is not None:
        images = f" {setting('input_dir', cfg.input_dir)}"
    next_command = f"python -m pti.explore {setting('ckpt', cfg.ckpt)}{images}"
    print_summary("Latent space", metrics, artefacts, next_command)


def draw(
    cfg: DictConfig,
    output_dir: Path,
    study: "LatentStudy",
    projections: "dict[str, Projection]",
    tables: "StudyTables",
) -> dict[str, Path]:
    """Write the figure and the page.

    Returns:
        Name -> path of both files.
    """
    from pti.latent_study.atlas import write_atlas
    from pti.latent_study.figures import FigureStyle, draw_projection

    latents = study.latents
    title = f"Latent space of {checkpoint_names([study.checkpoint.path])[0]}"
    patients = len(set(latents.patient.tolist()) - {""})
    counts = f"{len(latents)} images" + (f" of {patients} patients" if patients else "")
    projection = projections[cfg.method]
    settings = " · ".join(filter(None, (counts, projection.note)))
    subtitle = settings if cfg.subtitle is None else str(cfg.subtitle)
    style = FigureStyle(cfg.color_by, f"{title}, {METHODS[cfg.method]}", subtitle, cfg.join_pairs, cfg.dpi)
    draw_projection(output_dir / FIGURE, latents, projection, style)
    write_atlas(
        output_dir / ATLAS,
        latents,
        study.images,
        projections,
        tables,
        color_by=cfg.color_by,
        title=title,
        subtitle=f"{counts}: {study.origin}" if cfg.subtitle is None else subtitle,
    )
    return {"picture": output_dir / FIGURE, "page": output_dir / ATLAS}


def refuse_foreign_files(output_dir: Path) -> None:
    """Refuse a folder whose files of the same names were not written by `analyze`.

    Raises:
        UsageError: There are such files; the message names them.
    """
    names = (FIGURE, ATLAS, LATENTS, WALKS, "distances.csv", "summary.json")
    existing = [name for name in names if (output_dir / name).exists()]
    try:
        own = json.loads((output_dir / "summary.json").read_text())["command"] == "analyze"
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if existing and not own:
        raise UsageError(
            f"{setting('output_dir', output_dir)}: found {', '.join(existing)}, which this command didn't "
            "write; expected a new folder or an output folder of analyze. Choose another output_dir."
        )


if __name__ == "__main__":
    main()
