"""``python -m pti.analyze``: what a VAE's latent space looks like, in pictures, tables and one page."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.common.errors import UsageError
from pti.latent_study.names import METHODS
from pti.latent_study.study import check_ranges, check_study, components_of, open_study, project_all
from pti.runs.locate import checkpoint_names

if TYPE_CHECKING:
    from pti.latent_study.study import LatentStudy

PICTURE, ATLAS, LATENTS, TENSORBOARD = "projection.png", "projection.html", "latents.npz", "tensorboard"


def preflight(cfg: DictConfig) -> None:
    """Refuse what can't be, before anything heavy is imported."""
    check_study(cfg, "atlas_methods")
    check_ranges(cfg, {"dpi": (72, 1200)})


@command("analyze", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Encode, project, measure, and write."""
    from pti.latent_study.latents import save
    from pti.latent_study.tables import key_figures, tabulate, write_tables
    from pti.runs.summary import print_summary, write_summary

    refuse_others_files(output_dir)
    study = open_study(cfg, output_dir)
    components = components_of(study, cfg.seed)
    projections = project_all(cfg, components, list(cfg.atlas_methods))
    tables = tabulate(study.latents, components)
    artefacts = draw(cfg, output_dir, study, projections, tables)
    save(study.latents, output_dir / LATENTS)
    artefacts["latents"] = output_dir / LATENTS
    artefacts |= write_tables(tables, output_dir)
    if cfg.tensorboard:
        from pti.latent_study.projector import write_projector

        artefacts["tensorboard"] = output_dir / TENSORBOARD
        write_projector(output_dir / TENSORBOARD, study.latents, study.images, components.scores)
    figures: dict[str, Any] = {
        "images": len(study.images),
        "images are": study.origin,
        "method": METHODS[cfg.method],
    }
    figures |= key_figures(tables)
    write_summary(
        output_dir,
        command="analyze",
        figures=figures,
        artefacts=artefacts,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
        data_fingerprint=study.fingerprint,
        checkpoint=study.checkpoint,
        seed=cfg.seed,
    )
    following = shlex.join(["python", "-m", "pti.explore", f"ckpt={cfg.ckpt}"])
    print_summary("Latent space", figures, artefacts, following)


def draw(
    cfg: DictConfig, output_dir: Path, study: "LatentStudy", projections: dict[str, Any], tables: Any
) -> dict[str, Path]:
    """Write the picture and the page."""
    from pti.latent_study.atlas import write_atlas
    from pti.latent_study.figures import Look, draw_projection

    latents = study.latents
    title = f"Latent space of {checkpoint_names([study.checkpoint])[0]}"
    patients = len(set(latents.patient.tolist()) - {""})
    counted = f"{len(latents)} images" + (f" of {patients} patients" if patients else "")
    first = projections[cfg.method]
    told = " · ".join(text for text in (counted, first.note) if text)
    subtitle = told if cfg.subtitle is None else str(cfg.subtitle)
    look = Look(cfg.color_by, f"{title}, {METHODS[cfg.method]}", subtitle, cfg.join_pairs, cfg.dpi)
    draw_projection(output_dir / PICTURE, latents, first, look)
    write_atlas(
        output_dir / ATLAS,
        latents,
        study.images,
        projections,
        tables,
        color_by=cfg.color_by,
        title=title,
        subtitle=f"{counted}: {study.origin}" if cfg.subtitle is None else subtitle,
    )
    return {"picture": output_dir / PICTURE, "page": output_dir / ATLAS}


def refuse_others_files(output_dir: Path) -> None:
    """Refuse a folder that holds files of these names from something else than `analyze`.

    Raises:
        UsageError: it does.
    """
    found = [
        name
        for name in (PICTURE, ATLAS, LATENTS, "distances.csv", "summary.json")
        if (output_dir / name).exists()
    ]
    try:
        own = json.loads((output_dir / "summary.json").read_text())["command"] == "analyze"
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if found and not own:
        raise UsageError(
            f"output_dir={output_dir}: found {', '.join(found)} there, which this command didn't write, "
            "expected a new folder or this command's own. Choose another output_dir."
        )


if __name__ == "__main__":
    main()
