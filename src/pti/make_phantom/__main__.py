"""``python -m pti.make_phantom``: write the phantom data set."""

from pathlib import Path

from omegaconf import DictConfig

from pti.cli.command import command
from pti.common.path_settings import setting

KEYS = ("patients", "slices", "image_size", "pixel_mm", "seed", "broken")
_PREVIEW_PAIRS = 6


def preflight(cfg: DictConfig) -> None:
    """Refuse settings out of range and a folder that holds something else."""
    from hydra.utils import instantiate

    from pti.data.phantom.folder import all_settings, check_settings, holds_phantom

    settings = all_settings({key: cfg[key] for key in KEYS}, instantiate(cfg.style))
    check_settings(settings)
    holds_phantom(Path(cfg.output_dir), settings)


@command("make_phantom", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> None:
    """Write the data set, a picture of some pairs and summary.json."""
    import time

    from hydra.utils import instantiate

    from pti.data.phantom import make_phantom
    from pti.data.phantom.folder import all_settings
    from pti.data.phantom.pairs import draw_pairs
    from pti.drawing.contact_sheet import contact_sheet
    from pti.runs.summary import from_here, print_summary, write_summary

    start = time.monotonic()
    settings = {key: cfg[key] for key in KEYS}
    style = instantiate(cfg.style)
    written = make_phantom(output_dir, **settings, style=style)
    metrics = {"pairs": cfg.patients * cfg.slices, "patients": cfg.patients}
    names = ["dente", "edente", "truth.csv", "preview.png"] + ["broken.csv"] * cfg.broken
    artefacts = {name: output_dir / name for name in names}
    if written:
        pairs = [
            next(draw_pairs(cfg.seed, patient, 1, cfg.image_size, cfg.pixel_mm, style))
            for patient in range(min(_PREVIEW_PAIRS, cfg.patients))
        ]
        images = [(pair.name, pair.dente, pair.edente) for pair in pairs]
        contact_sheet(artefacts["preview.png"], images, pairs[0].truth["pixel_mm"])
        metrics["seconds"] = round(time.monotonic() - start, 1)
        write_summary(
            output_dir,
            command="make_phantom",
            metrics=metrics,
            artefacts=artefacts,
            config=all_settings(settings, style),
            seed=cfg.seed,
        )
    title = "The phantom" if written else "The phantom was there already; nothing was written"
    check = f"python -m pti.check {setting('data.root', from_here(output_dir))}"
    print_summary(title, metrics, artefacts, check)


if __name__ == "__main__":
    main()
