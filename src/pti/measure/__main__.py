"""``python -m pti.measure``: measure the bone in a folder of images, or in the pairs of a data set."""

from pathlib import Path

from omegaconf import DictConfig

from pti.cli.command import command
from pti.cli.preflight import POSITIVE, require_folder, require_in_range
from pti.common.errors import UsageError
from pti.common.path_settings import setting


def preflight(cfg: DictConfig) -> None:
    """Check the folder and the numbers before anything heavy is imported."""
    if (cfg.input_dir is None) == (cfg.data.root is None):
        state = "neither is set" if cfg.input_dir is None else "both are set"
        raise UsageError(f"input_dir and data.root: {state}, expected one of the two.")
    if cfg.input_dir is not None:
        require_folder("input_dir", cfg.input_dir)
    else:
        require_folder("data.root", cfg.data.root)
    require_in_range(cfg, {"pixel_mm": (0.001, 10)})  # as for the sizes that files state
    require_in_range(cfg, {"workers": POSITIVE}, whole=True)


@command("measure", preflight=preflight)
def main(cfg: DictConfig, output_dir: Path) -> int:
    """Measure every image; write table, picture and summary; exit with 1 if a file is unusable."""
    from hydra.utils import instantiate

    from pti.data.layouts import PATIENT_PATTERN
    from pti.measure.images import images_of_data_set, images_of_folder, measure_images
    from pti.measure.results import PICTURE, TABLE, finish
    from pti.runs.manifest import Manifest
    from pti.runs.summary import from_here

    layout = cfg.data.layout
    if cfg.input_dir is not None:
        folder, pattern = Path(str(cfg.input_dir)).absolute(), layout.get("patient_pattern", PATIENT_PATTERN)
        images = images_of_folder(folder, pattern, output_dir)
        following = f"pti.evaluate {setting('prediction_dir', from_here(folder))} target_dir=FOLDER"
    else:
        folder = Path(str(cfg.data.root)).absolute()
        images = images_of_data_set(folder, instantiate(layout), cfg.data.allow_links)
        following = f"pti.train experiment=sizes {setting('data.root', from_here(folder))}"
    settings = {"command": "measure", "images": str(folder), "pixel_mm": cfg.pixel_mm}
    with Manifest(output_dir, settings, (TABLE, PICTURE)):
        rows = measure_images(images, cfg.pixel_mm, cfg.workers)
        usable = finish(output_dir, images, rows, cfg.pixel_mm, f"python -m {following}")
    return 0 if usable else 1


if __name__ == "__main__":
    main()
