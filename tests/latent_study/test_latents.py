import numpy as np
import pytest
import torch
from torch import nn

from helpers.latent_study_setup import make_latents
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.normalization import RangeNormalization
from pti.latent_study.latents import (
    Encode,
    concatenate,
    group_of,
    load_latents,
    pair_of,
    save_latents,
)
from pti.latent_study.options import ATTRIBUTES
from pti.metrics.morphometry import bone_mask, measure
from pti.networks.posterior import Posterior


class MeanAndHalf(nn.Module):
    """An autoencoder with known latents: block means of the pixels, and a standard deviation of 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.normalization = RangeNormalization()

    def encode(self, raw: torch.Tensor) -> Posterior:
        mean = nn.functional.avg_pool2d(raw, 8).repeat(1, 3, 1, 1) / 1000
        return Posterior(mean, torch.full_like(mean, 0.5))

    def decode(self, latents: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_encodes_in_batches_and_measures_at_the_files_own_size(paired_set):
    images = find_images(paired_set)
    encode, module = Encode(16, pixel_mm=0.3, splits={images[0].name: "val"}), MeanAndHalf()
    batches = [encode(module, images[start : start + 5]) for start in range(0, len(images), 5)]
    latents = concatenate(reversed(batches))
    assert latents.name.tolist() == [image.name for image in images]
    assert latents.mean.shape == (len(images), 3, 2, 2)
    assert latents.groups == ["dente", "edente"]
    assert latents.split[0] == "val"
    assert set(latents.split[1:]) == {""}
    first = tif.read(images[0].path)
    assert first.pixel_mm is not None
    expected = measure(bone_mask(first.pixels), first.pixel_mm).as_dict()["height_mm"]
    assert latents.attributes["height_mm"][0] == pytest.approx(expected)
    mean, std = latents.mean.astype(np.float64), 0.5
    kl = 0.5 * (mean**2 + std**2 - np.log(std**2) - 1).sum((2, 3))
    assert np.allclose(latents.kl, kl, rtol=1e-5)
    assert np.allclose(latents.std, 0.5)


def test_file_round_trip_needs_no_pickle(tmp_path):
    latents = make_latents()
    save_latents(latents, tmp_path / "below" / "latents.npz")
    loaded = load_latents(tmp_path / "below" / "latents.npz")
    for name in ("name", "group", "patient", "split", "mean", "std", "kl"):
        assert np.array_equal(getattr(loaded, name), getattr(latents, name))
    assert set(loaded.attributes) == set(ATTRIBUTES)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["latents.npz"]


def test_pairs_are_matched_by_name():
    latents = make_latents()
    pairs = latents.pairs()
    assert len(pairs) == len(latents) // 2
    for first, second in pairs:
        assert latents.group[first] == "dente"
        assert latents.group[second] == "edente"
        assert pair_of(str(latents.name[first])) == pair_of(str(latents.name[second]))


@pytest.mark.parametrize(
    ("name", "group", "pair"),
    [("a", "images", "a"), ("dente/a", "dente", "a"), ("set/dente/a", "dente", "set/a")],
)
def test_groups_and_pairs_from_names(name, group, pair):
    assert (group_of(name), pair_of(name)) == (group, pair)
