"""Tell after stage 1 whether the autoencoder limits what stage 2 can reach, and by which metric."""

from __future__ import annotations

from collections.abc import Mapping

LIMITS: dict[str, tuple[str, float]] = {
    "texture_amplitude": ("at least", 0.85),
    "texture_correlation": ("at least", 0.8),
    "bone_dice": ("at least", 0.98),
    "bone_height_error_mm": ("at most", 0.3),
}
"""Metric of the validation -> how it is bounded, and the limit.

The decoder gives samples no more texture than reconstructions: on the phantom, an autoencoder with an
amplitude of 0.72 gave healed bone one of 0.70, which looks smoother than true bone. Synthesized texture
(`pti.networks.texture_synthesis`) raises that to 0.96, but it is random and does not raise the correlation.
Heights of samples err by 0.6 mm and more; an independent error of 0.3 mm increases that by a tenth.
"""


def verdict(metrics: Mapping[str, float]) -> str:
    """Say whether an autoencoder is good enough for stage 2; empty without metrics to tell by.

    Args:
        metrics: Of the best validation, by name, without prefix.
    """
    known = {name: limit for name, limit in LIMITS.items() if name in metrics}
    if not known:
        return ""
    failed = [name for name, (bound, limit) in known.items() if not _is_within(metrics[name], bound, limit)]
    shown = [f"{name} {metrics[name]:.3g} ({known[name][0]} {known[name][1]:g})" for name in failed or known]
    if not failed:
        return f"Good enough for stage 2: {', '.join(shown)}."
    return (
        f"Not good enough for stage 2, whose samples can't be better: {', '.join(shown)}. Train longer "
        "(trainer.max_epochs), or keep more in the latents: increase model.autoencoder.latent_channels, "
        "decrease model.kl_weight. Missing texture can be made up at random in stage 2 (model/texture)."
    )


def _is_within(value: float, bound: str, limit: float) -> bool:
    return value >= limit if bound == "at least" else value <= limit
