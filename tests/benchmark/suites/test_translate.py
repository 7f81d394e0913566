"""Both sides translate the same images by the same network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.benchmark_setup import small_settings
from pti.benchmark.device import count_flops
from pti.benchmark.experiments import phantom_overrides, save_untrained
from pti.benchmark.suites import translate
from pti.benchmark.suites.translate import open_module, open_pairs, our_work, plain_work, translate_suite
from pti.common.errors import UsageError
from pti.diffusion.samplers import ddpm


def test_timed_steps_give_the_flops_of_all_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(translate, "PLAIN_STEPS", 8)
    with small_settings(tmp_path, translations=2, plain_steps=3) as settings:
        part = plain_work(settings, open_module)
        whole = plain_work(replace(settings, plain_steps=8), open_module)
    assert part.one_step is not None
    assert whole.one_step is None
    assert part.measure(count_flops) == pytest.approx(whole.measure(count_flops))
    assert "3 of 8 steps" in part.note


def test_the_first_steps_of_all_are_the_plain_sampler(tmp_path: Path):
    with small_settings(tmp_path, translations=2) as settings:
        module, pairs = open_module(settings), open_pairs(settings)
    whole = translate.translate(module, pairs, sampler=ddpm, steps=4)
    first = translate.translate(module, pairs, sampler=translate.first_steps(4), steps=4)
    np.testing.assert_array_equal(first, whole)
    assert whole.shape == pairs.targets.shape == (2, 32, 32)


def test_our_side_uses_the_models_own_sampler(tmp_path: Path):
    with small_settings(tmp_path, translations=2) as settings:
        work = our_work(settings)
        module, pairs = open_module(settings), open_pairs(settings)
    own = module.resolve_sampling(None, None, None)
    assert work.note == f"{own['sampler'].func.__name__}, {own['steps']} steps"
    assert work.error is not None
    error = np.abs(translate.translate(module, pairs) - pairs.targets).mean()
    assert work.error() == pytest.approx(float(error))


def test_a_checkpoint_is_compared_with_its_own_images_and_truth(tmp_path: Path):
    with small_settings(tmp_path, translations=3, split="train") as untrained:
        saved = translate.save_stage_2(untrained, "ldm_demo", 32)
        same, recipe = translate_suite(replace(untrained, ckpt=str(saved)))
    assert same.items == recipe.items == 3
    assert same.has_truth
    assert not recipe.has_truth
    assert [side.name for side in recipe.ours] == ["pti: the checkpoint"]
    assert [side.name for side in same.ours] == ["pti: the checkpoint", "pti: the checkpoint, precision=bf16"]


def test_each_precision_is_timed_in_that_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = []
    monkeypatch.setattr(translate, "translate_squares", lambda *_, **settings: given.append(settings))
    with small_settings(tmp_path, translations=2) as settings:
        for side in translate_suite(settings)[0].ours:
            side.build().run()
    assert [settings["precision"] for settings in given] == ["float32", "bf16"]


def test_a_model_without_sampler_is_refused(tmp_path: Path):
    with small_settings(tmp_path) as settings:
        overrides = phantom_overrides(settings, 32, 8, 4)
        path = save_untrained(settings, "regression_demo", overrides, tmp_path / "regression.ckpt")
        with pytest.raises(UsageError, match="no sampler"):
            open_module(replace(settings, ckpt=str(path)))


@pytest.mark.slow
def test_the_plain_recipes_network_translates(tmp_path: Path):
    with small_settings(tmp_path, translations=2, plain_steps=2) as settings:
        for comparison in translate_suite(settings):
            for side in comparison.sides:
                translated = side.build().run()
                assert isinstance(translated, np.ndarray)
                assert translated.shape[0] == 2
                assert np.isfinite(translated).all()
