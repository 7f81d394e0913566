"""The command that the benchmark names at its end."""

from dataclasses import fields
from typing import Any

import pytest

from pti.benchmark.comparison import Record
from pti.benchmark.following import following_command


def record(side: str, ms: float, work: str = "training step of vae_demo, batch 2") -> Record:
    values: dict[str, Any] = dict.fromkeys(field.name for field in fields(Record))
    values |= {"suite": "vae", "work": work, "side": side}
    values |= {"is_plain": side.startswith("plain"), "ms": ms, "ms_quartiles": (ms - 1, ms + 1)}
    return Record(**values)


@pytest.mark.parametrize(
    ("faster", "settings"),
    [(7.0, "model.channels_last=true "), (9.0, "")],  # the quartiles of 9 and 10 overlap
)
def test_training_steps_lead_to_a_forecast_with_the_fastest_settings(faster, settings):
    records = [record("pti: vae_demo", 10), record("pti: vae_demo, channels_last", faster)]
    records += [record("plain: fp32 loop", 2), record("pti: another, bf16-mixed", 1)]
    expected = f"python -m pti.train experiment=vae_demo data.root=FOLDER {settings}forecast=true"
    assert following_command({"suite": "vae", "ckpt": None}, records) == expected


@pytest.mark.parametrize(("faster", "settings"), [(7.0, " precision=bf16"), (9.0, "")])
def test_translations_lead_to_the_fastest_precision(faster, settings):
    sides = {"pti: the checkpoint": 10.0, "pti: the checkpoint, precision=bf16": faster, "plain: ddpm": 1.0}
    records = [record(side, ms, "translation, same network") for side, ms in sides.items()]
    expected = f"python -m pti.translate ckpt=a.ckpt input_dir=FOLDER{settings}"
    assert following_command({"suite": "translate", "ckpt": "a.ckpt"}, records) == expected


@pytest.mark.parametrize(
    ("suite", "ckpt", "expected"),
    [
        ("translate", None, "python -m pti.benchmark suite=translate ckpt=CHECKPOINT"),
        ("translate", "a b.ckpt", "python -m pti.translate ckpt='a b.ckpt' input_dir=FOLDER"),
        (
            "steps",
            "a.ckpt",
            "python -m pti.translate ckpt=a.ckpt input_dir=FOLDER sampler=SAMPLER steps=STEPS",
        ),
        ("check", None, None),
    ],
)
def test_other_suites(suite, ckpt, expected):
    assert following_command({"suite": suite, "ckpt": ckpt}, []) == expected
