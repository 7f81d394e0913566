"""Samplers and numbers of steps of one model, against many steps of the same network."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.benchmark_setup import small_settings
from pti.benchmark.suites import steps, translate


def test_each_sampler_is_compared_with_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"PLAIN_STEPS": 6, "HEUN_STEPS": (1, 2), "DDIM_STEPS": (3,)}.items():
        monkeypatch.setattr(steps, name, value)
    with small_settings(tmp_path, translations=3, split="train") as untrained:
        saved = translate.save_stage_2(untrained, "ldm_demo", 32)
        rows = steps.steps_suite(replace(untrained, ckpt=str(saved)))
    found = {(row["what"], row["way"]): row["median"] for row in rows}
    evaluations = {what: count for (what, way), count in found.items() if way == "evaluations"}
    assert evaluations == {
        "the model's own": 9,  # Heun's method evaluates the network twice a step, except in the last one
        "ddpm, 6 steps": 6,
        "first_step": 1,
        "heun, 1 steps": 1,
        "heun, 2 steps": 3,
        "ddim, 3 steps": 3,
    }
    assert found["ddpm, 6 steps", "times faster"] == 1
    assert found["ddpm, 6 steps", "bone_dice, difference"] == 0
    assert all(found[what, "time"] > 0 for what in evaluations)
    assert all(0 < found[what, "psnr"] < 60 for what in evaluations)
