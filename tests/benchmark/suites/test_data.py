"""Both sides of the suite serve the same images."""

from pathlib import Path

import numpy as np
import torch

from pti.benchmark.experiments import draw_pairs
from pti.benchmark.suites.data import cached_epoch, plain_epoch, plain_images
from pti.data.tif import read

CPU = torch.device("cpu")


def test_both_sides_serve_every_image(tmp_path: Path):
    folder = draw_pairs(tmp_path / "images", 64, 11) / "edente"
    assert plain_epoch(folder, 64, CPU).run() == 11
    for normalizes in (False, True):
        assert cached_epoch(folder, 64, CPU, tmp_path / "cache", normalizes).run() == 11


def test_the_plain_recipe_decodes_the_same_pixels(tmp_path: Path):
    folder = draw_pairs(tmp_path / "images", 64, 2) / "edente"
    for path, image in zip(sorted(folder.iterdir()), plain_images(folder, 64), strict=True):
        raw = read(path).pixels.T  # MONAI swaps the axes
        tissue = raw[raw != 0]
        expected = np.where(raw != 0, (raw - tissue.mean()) / tissue.std(), 0)
        np.testing.assert_allclose(np.asarray(image)[0], expected, atol=1e-4)


def test_large_sets_repeat_pairs_of_other_patients(tmp_path: Path):
    root = draw_pairs(tmp_path / "images", 64, 11)
    names = {path.name for path in (root / "dente").iterdir()}
    assert names == {path.name for path in (root / "edente").iterdir()}
    assert len({name.rpartition("_")[2] for name in names}) == 11
