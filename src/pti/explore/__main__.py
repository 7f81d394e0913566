"""``python -m pti.explore``: explore a VAE's latent space on a page that only this machine can open."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pti.cli.command import command
from pti.cli.preflight import SPLITS, require_checkpoint_and_images, require_in_range, require_one_of
from pti.common.errors import UsageError
from pti.explore.server import is_loopback, listen, serve
from pti.latent_study.options import COLORS, METHODS, RANGES
from pti.runs.locate import checkpoint_names

if TYPE_CHECKING:
    from pti.explore.layout import Page
    from pti.latent_study.study import LatentStudy, StudySettings


def preflight(cfg: DictConfig) -> None:
    """Refuse invalid settings before anything heavy is imported."""
    require_checkpoint_and_images(cfg)
    require_one_of(
        cfg, {"split": (*SPLITS, "all"), "color_by": COLORS, "method": METHODS, "methods": METHODS}
    )
    require_in_range(cfg, {**RANGES, "port": (0, 65535)})
    if not is_loopback(str(cfg.host)):
        raise UsageError(
            f"host={cfg.host}: expected 127.0.0.1, localhost or ::1, because everyone who can reach the page "
            "sees patients' images. From another machine: ssh -L 8050:127.0.0.1:8050 THIS_MACHINE."
        )
    if find_spec("dash") is None:
        raise UsageError("explore needs the package dash: python -m pip install 'pti[explore]'.")


@command("explore", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Encode and project the images, write the summary, and serve the page until Ctrl-C."""
    from pti.explore.app import build_app
    from pti.latent_study.study import StudySettings, open_study
    from pti.runs.summary import write_summary

    listener = listen(str(cfg.host), cfg.port)
    port = listener.getsockname()[1]
    if cfg.port not in (0, port):
        print(f"Port {cfg.port} is taken; using {port} instead.")
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = StudySettings.from_config(config)
    study = open_study(settings, output_dir)
    page = page_of(study, settings, cfg.methods)
    write_summary(
        output_dir,
        command="explore",
        metrics={"images": len(study.images), "images are": study.origin, "methods": list(page.projections)},
        artefacts={},
        config=config,
        data_fingerprint=study.fingerprint,
        checkpoint=study.checkpoint,
        seed=cfg.seed,
    )
    serve(build_app(page).server, listener, page.title)
    print("Stopped.")


def page_of(study: "LatentStudy", settings: "StudySettings", methods: list[str]) -> "Page":
    """Project the latents and collect everything that the page shows."""
    from pti.explore.explorer import Explorer
    from pti.explore.layout import Page
    from pti.inference.devices import choose_devices
    from pti.inference.pictures import DIFFERENCE_SHARE
    from pti.inference.reconstructions import fixed_data_range
    from pti.inference.survey import survey
    from pti.latent_study.projection import principal_components
    from pti.latent_study.study import project_all

    module = study.module.to(choose_devices(settings.accelerator, 1)[0]).eval()
    data = study.checkpoint.config["data"]
    data_range, _ = fixed_data_range(study.autoencoder.normalization, survey(study.images).tissue_range)
    components = principal_components(study.latents.flat, settings.seed)
    return Page(
        Explorer(module, study.latents, study.images, data["image_size"], data["pixel_mm"], settings.seed),
        project_all(settings, components, methods),
        settings.color_by,
        title=f"Latent space of {checkpoint_names([study.checkpoint.path])[0]}",
        subtitle=f"{len(study.images)} images: {study.origin}",
        difference_limit=DIFFERENCE_SHARE * data_range,
    )


if __name__ == "__main__":
    main()
