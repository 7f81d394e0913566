"""The command to run after a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pti.common.path_settings import setting

if TYPE_CHECKING:
    from pti.benchmark.comparison import Record

SETTINGS = {"channels_last": "model.channels_last=true", "bf16-mixed": "trainer.precision=bf16-mixed"}
"""Words in the name of a side -> the setting of `train` that it was measured with; others are settings."""


def following_command(config: Mapping[str, Any], records: Sequence[Record]) -> str | None:
    """Return the command that applies what was measured; None if nothing follows from it.

    After training steps, it is the forecast of a training on this device, with the fastest settings. After
    translations, it is `translate`, or the same suite with a trained model, whose error it then reports.

    Args:
        config: The command's configuration: ``suite`` and ``ckpt``.
        records: What was measured; empty after a study.
    """
    suite, ckpt = config["suite"], config["ckpt"]
    if suite in ("all", "data", "vae", "ldm"):
        name, *settings = _fastest(records, "training step") or ["vae_baseline"]
        return " ".join(
            [f"python -m pti.train experiment={name} data.root=FOLDER", *settings, "forecast=true"]
        )
    if suite in ("translate", "steps"):
        if ckpt is None:
            return f"python -m pti.benchmark suite={suite} ckpt=CHECKPOINT"
        chosen = (
            ["sampler=SAMPLER", "steps=STEPS"] if suite == "steps" else _fastest(records, "translation")[1:]
        )
        return " ".join(["python -m pti.translate", setting("ckpt", ckpt), "input_dir=FOLDER", *chosen])
    return None


def _fastest(records: Sequence[Record], work: str) -> list[str]:
    """Return the name of the first side of some work, and the settings that make it faster.

    A side counts as faster than the experiment's own settings if the quartiles of their times don't overlap.
    """
    sides = [record for record in records if record.work.startswith(work) and not record.is_plain]
    if not sides:
        return []
    fastest = default = sides[0]
    for side in sides[1:]:
        if _words(side)[0] == _words(default)[0] and side.ms_quartiles[1] < fastest.ms_quartiles[0]:
            fastest = side
    name, *words = _words(fastest)
    return [name, *(SETTINGS.get(word, word) for word in words)]


def _words(record: Record) -> list[str]:
    """Split the name of a side, ``pti: vae_demo, channels_last``, into the experiment and its settings."""
    return record.side.removeprefix("pti: ").split(", ")
