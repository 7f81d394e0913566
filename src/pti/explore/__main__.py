"""``python -m pti.explore``: walk through a VAE's latent space on a page that this machine alone can open."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.common.errors import UsageError
from pti.explore.server import is_loopback, listen, serve
from pti.latent_study.study import check_ranges, check_study, components_of, open_study, project_all
from pti.runs.locate import checkpoint_names

if TYPE_CHECKING:
    from pti.explore.app import Page
    from pti.latent_study.study import LatentStudy


def preflight(cfg: DictConfig) -> None:
    """Refuse what can't be, before anything heavy is imported."""
    from importlib.util import find_spec

    check_study(cfg, "methods")
    check_ranges(cfg, {"port": (0, 65535)})
    if not is_loopback(str(cfg.host)):
        raise UsageError(
            f"host={cfg.host}: expected 127.0.0.1, localhost or ::1, because the page shows patients' images "
            "to whoever can reach it. From another machine: ssh -L 8050:127.0.0.1:8050 THIS_MACHINE."
        )
    if find_spec("dash") is None:
        raise UsageError("explore needs the package dash: python -m pip install 'pti[explore]'.")


@command("explore", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Encode and project, write the summary, serve until Ctrl-C."""
    from pti.explore.app import build_app
    from pti.runs.summary import write_summary

    listening = listen(str(cfg.host), cfg.port)
    port = listening.getsockname()[1]
    if cfg.port not in (0, port):
        print(f"Port {cfg.port} is taken: using {port}.")
    study = open_study(cfg, output_dir)
    page = page_of(cfg, study)
    app = build_app(page)
    write_summary(
        output_dir,
        command="explore",
        figures={"images": len(study.images), "images are": study.origin, "methods": list(page.projections)},
        artefacts={},
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
        data_fingerprint=study.fingerprint,
        checkpoint=study.checkpoint,
        seed=cfg.seed,
    )
    told = f"{page.title}: {{}}   (Ctrl-C ends it)"
    serve(app.server, listening, str(cfg.host), lambda address: print(told.format(address), flush=True))
    print("Stopped.")


def page_of(cfg: DictConfig, study: "LatentStudy") -> "Page":
    """All that the page shows."""
    from pti.data.input_images import survey
    from pti.explore.app import Page
    from pti.explore.explorer import Explorer
    from pti.inference.devices import choose_devices
    from pti.inference.reconstructions import DIFFERENCE_SHARE, fixed_data_range

    module = study.module.to(choose_devices(cfg.accelerator, 1)[0]).eval()
    data = study.trained["data"]
    explorer = Explorer(
        module,
        study.first_stage,
        study.latents,
        study.images,
        image_size=data["image_size"],
        pixel_mm=data["pixel_mm"],
        seed=cfg.seed,
    )
    data_range, _ = fixed_data_range(
        study.first_stage.get_submodule("normalization"), survey(study.images).tissue
    )
    projections = project_all(cfg, components_of(study, cfg.seed), list(cfg.methods))
    return Page(
        explorer,
        projections,
        cfg.color_by,
        title=f"Latent space of {checkpoint_names([study.checkpoint])[0]}",
        subtitle=f"{len(study.images)} images: {study.origin}",
        difference_limit=DIFFERENCE_SHARE * data_range,
    )


if __name__ == "__main__":
    main()
