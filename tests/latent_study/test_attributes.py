"""Latent attributes of a study: agreement with their measures, and effects of walks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.latent_study_setup import make_latents
from pti.latent_study.attributes import (
    STEPS,
    Walk,
    attribute_fits,
    move_latents,
    trained_groups,
    walk_effects,
)
from pti.latent_study.walk_figure import draw_walks
from pti.modules.attributes import LatentAttributes

ATTRIBUTES = LatentAttributes(["height", "area"])


def test_an_exact_attribute_is_told_from_one_that_follows_nothing():
    latents = make_latents(patients=12)
    random = np.random.default_rng(0)
    heights, areas = random.uniform(15, 25, (2, len(latents)))
    latents.mean[:, 0] = (heights**3)[:, None, None]  # monotone, not linear
    latents.mean[:, 1] = random.normal(size=latents.mean[:, 1].shape)
    height, area, *others = attribute_fits(
        latents, ATTRIBUTES, {"height": heights, "area": areas}, latents.groups
    )
    assert (height.measure, height.channel, height.group, height.images) == ("height", 0, "dente", 36)
    assert height.rank_correlation == pytest.approx(1)
    assert 0.9 < height.interpretability < 1
    assert 0.5 < height.separation < height.interpretability
    assert abs(area.rank_correlation) < 0.5
    assert area.interpretability < 0.3
    assert [row.group for row in others] == ["edente"] * 2


def test_training_images_and_images_without_the_measure_are_left_out():
    latents = make_latents(patients=12)
    split = np.where(np.arange(len(latents)) < 20, "train", "test")
    latents = replace(latents, split=split)
    heights = np.arange(len(latents), dtype=float)
    heights[20:22] = np.nan
    dente = attribute_fits(latents, ATTRIBUTES, {"height": heights, "area": heights}, ["dente"])[0]
    assert dente.images == 36 - 22


def test_groups_that_training_left_out_are_not_judged():
    assert trained_groups(["dente", "edente"], "target") == ["edente"]
    assert trained_groups(["dente", "edente"], "condition") == ["dente"]
    assert trained_groups(["dente", "edente"], "both") == ["dente", "edente"]
    assert trained_groups(["images"], "target") == ["images"]


def walk(height: np.ndarray, along: str = "height") -> Walk:
    names = ("height", "width_quarter", "width_half", "width_three_quarters", "area")
    sizes = {name: np.full(len(STEPS), 10.0) for name in names} | {"height": height}
    images = np.zeros((len(STEPS), 8, 8), np.float32)
    images[:, 2:6, 2:6] = 100 + np.arange(len(STEPS))[:, None, None]
    return Walk(along, STEPS + height[4], images, sizes)


def test_effects_of_walks():
    walks = {"edente": [walk(20 + 1.5 * STEPS), walk(24 + 0.5 * STEPS)]}
    effects = {row.measured: row for row in walk_effects(walks)}
    assert effects["height"].correlation == pytest.approx(1)
    assert effects["height"].change == pytest.approx(1)
    assert 0.8 < effects["height"].overall_correlation < 1
    assert (effects["area"].correlation, effects["area"].change) == (0, pytest.approx(0, abs=1e-9))
    assert {row.images for row in effects.values()} == {2}


def test_steps_move_one_attribute():
    mean = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    moved = move_latents(ATTRIBUTES, mean, "area", np.array([-1.0, 0.0]))
    assert np.array_equal(moved[1].numpy(), mean)
    assert np.allclose(moved[0].numpy() - mean, np.array([0, -1, 0])[:, None, None])


def test_the_picture_has_a_row_for_each_group_and_attribute(tmp_path: Path):
    one = {"edente": [walk(20 + STEPS)]}
    draw_walks(tmp_path / "one.png", one)
    draw_walks(
        tmp_path / "three.png",
        {"dente": [*one["edente"]], "edente": [*one["edente"], walk(20 + STEPS, "area")]},
    )
    first, second = (Image.open(tmp_path / f"{name}.png") for name in ("one", "three"))
    assert (second.width, second.height) == (first.width, 3 * first.height)
