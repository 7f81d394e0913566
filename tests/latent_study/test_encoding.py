"""Latents of image pairs, encoded with a loaded model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pti
from helpers.tiny_checkpoints import save_sizes, save_translator
from pti.common.errors import UsageError
from pti.data import tif
from pti.inference.api import Model
from pti.latent_study.encoding import encode_pairs
from pti.metrics.bone_agreement import find_bone


@pytest.fixture(scope="module")
def model(phantom: Path) -> Model:
    return pti.load(save_translator(phantom.parent / "model.ckpt", phantom), device="cpu")


def test_both_images_of_each_pair_are_encoded_and_measured(model: Model):
    pairs = model.pairs("train")
    latents = encode_pairs(model, pairs, batch_size=3)
    expected = [f"{group}/{pair.name}" for group in ("dente", "edente") for pair in pairs]
    assert latents.name.tolist() == expected
    assert set(latents.split) == {"train"}
    images = [tif.read(pair.files[role]) for role in ("condition", "target") for pair in pairs]
    np.testing.assert_allclose(latents.mean, model.encode([image.pixels for image in images]), atol=1e-5)
    heights = [find_bone(image.pixels, image.pixel_mm or 0).lengths["height"] for image in images]
    np.testing.assert_allclose(latents.attributes["height_mm"], heights)
    for first, second in latents.pairs():
        assert str(latents.name[first]).removeprefix("dente/") == str(latents.name[second]).removeprefix(
            "edente/"
        )


def test_incomplete_pairs_are_refused(model: Model):
    pair = model.pairs("train")[0]
    for pairs in ([], [replace(pair, target=None)]):
        with pytest.raises(ValueError, match="expected complete pairs"):
            encode_pairs(model, pairs)


def test_a_model_without_latents_is_refused(phantom: Path):
    model = pti.load(save_sizes(phantom.parent / "sizes.ckpt", phantom), device="cpu")
    with pytest.raises(UsageError, match="autoencoder"):
        encode_pairs(model, model.pairs("train"))
