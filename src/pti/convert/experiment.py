"""Translation of the scripts' settings into experiments: groups, values, and notes on what is different."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pti.common.errors import DataError
from pti.convert.original import section

WARM_UP = 6
"""The first epoch, from 0, in which the scripts' discriminator trains."""

_AUTOENCODER = (
    *("spatial_dims", "in_channels", "out_channels", "latent_channels", "channels", "num_res_blocks"),
    *("norm_num_groups", "norm_eps", "attention_levels"),
    *("with_encoder_nonlocal_attn", "with_decoder_nonlocal_attn"),
)
_SOURCES = {"edente": "target", "dente": "condition", "both": "both"}
_KNOWN = {
    *("autoencoder_def", "autoencoder_train", "diffusion_def", "diffusion_train", "NoiseScheduler"),
    *("spatial_dims", "image_channels", "latent_channels", "data_base_dir", "data_source", "train_split"),
    *("val_dir", "augment", "vae", "ldm"),
    *(
        "run_dir",
        "resume_ckpt",
        "checkpoint_dir",
        "wandb",
        "channel",
        "sample_axis",
    ),  # paths, logging, unused
}


@dataclass(frozen=True)
class Experiment:
    """An experiment in the making.

    Attributes:
        stage: 1 or 2.
        groups: Group -> option, as on the command line.
        values: Nested values that differ from the groups' defaults.
        notes: Sentences on what is different from the scripts.
    """

    stage: int
    groups: dict[str, str]
    values: dict[str, Any]
    notes: tuple[str, ...]

    def to_yaml(self, origin: str) -> str:
        """Return the text of ``experiment/NAME.yaml``; ``origin`` says where the settings come from."""
        import yaml

        lines = [f"  - override /{group}: {option}" for group, option in self.groups.items()]
        notes = "".join(f"# {note}\n" for note in self.notes)
        head = f"# @package _global_\n# Stage {self.stage}, converted from {origin}.\n{notes}"
        body = yaml.safe_dump(self.values, sort_keys=False, default_flow_style=None, width=110)
        return "\n".join([f"{head}defaults:", *lines, "", body])


def first_stage(settings: Mapping[str, Any], root: str | None) -> Experiment:
    """Translate the settings of the scripts' stage 1.

    Args:
        settings: Of `read_settings`.
        root: Folder of the data set; None = that in the settings.

    Raises:
        DataError: Settings that the network depends on are missing.
    """
    training, paths = section(dict(settings), "autoencoder_train"), section(dict(settings), "vae")
    own = section(dict(settings), "autoencoder_def")
    if "channels" not in own:
        raise DataError("config: found no autoencoder_def with channels; expected the settings of stage 1.")
    notes = [*_common_notes(settings), *_vae_notes(settings, training)]
    rate = float(training.get("lr", 2.5e-5))
    values = {
        "data": _data(settings, paths, training, root)
        | {"sources": _SOURCES.get(str(settings.get("data_source", "edente")), "target")},
        "model": {
            "autoencoder": {key: own[key] for key in _AUTOENCODER if key in own},
            "kl_weight": float(training.get("kl_weight", 1e-6)),
            "perceptual_weight": float(training.get("perceptual_weight", 1.0)),
            "adv_weight": 0.5,
            "disc_start": WARM_UP,
            "generator_optimizer": {"lr": rate},
            "discriminator_optimizer": {"lr": rate},
            "scale_lr_by_devices": True,
        },
        "trainer": _trainer(training, 100),
    }
    groups = {
        "model": "adversarial_vae",
        "model/normalization": "masked_zscore",
        "model/reconstruction": "l2" if training.get("recon_loss") == "l2" else "l1",
        "model/perceptual": "lpips",
    }
    return Experiment(1, groups, values, tuple(notes))


def second_stage(settings: Mapping[str, Any], root: str | None, autoencoder: str) -> Experiment:
    """Translate the settings of the scripts' stage 2.

    Args:
        settings: Of `read_settings`.
        root: Folder of the data set; None = that in the settings.
        autoencoder: ``autoencoder_ckpt`` of the experiment.

    Raises:
        DataError: Settings that the network depends on are missing, or ours can't be like them.
    """
    training, paths = section(dict(settings), "diffusion_train"), section(dict(settings), "ldm")
    own, noise = section(dict(settings), "diffusion_def"), section(dict(settings), "NoiseScheduler")
    if "channels" not in own or not own.get("with_conditioning", True):
        raise DataError("config: found no diffusion_def with conditioning; expected the settings of stage 2.")
    steps = int(noise.get("num_train_timesteps", 1000))
    network = {
        "latent_channels": own.get("in_channels", 4),
        "cross_attention_dim": own.get("cross_attention_dim", 512),
        "position": "none",
        "channels": own["channels"],
        "attention_levels": own["attention_levels"],
        "num_res_blocks": own.get("num_res_blocks", 2),
        "num_head_channels": _head_channels(own),
        "norm_num_groups": own.get("norm_num_groups", 32),
    }
    values = {
        "autoencoder_ckpt": autoencoder,
        "data": _data(settings, paths, training, root),
        "model": {
            "network": network,
            "path": {
                "beta_start": float(noise.get("beta_start", 0.0015)),
                "beta_end": float(noise.get("beta_end", 0.0195)),
                "steps": steps,
                "spacing": "even",
            },
            "sampler": {"clip": 1.0},
            "sampling_steps": steps,
            "optimizer": {"lr": float(training.get("lr", 1e-5))},
            **({"lr_schedule": schedule} if (schedule := _schedule(training, 50)) else {}),
            "scale_lr_by_devices": True,
            "ema_decay": None,
        },
        "trainer": _trainer(training, 50),
        "callbacks": {"checkpointer": {"monitor": "val/loss"}},
    }
    groups = {
        "model": "latent_diffusion",
        "model/conditioning": "cross_attention",
        "model/path": "scaled_linear",
        "model/sampler": "ddpm",
    }
    notes = [
        *_common_notes(settings),
        "The condition is the mean of its posterior; the scripts drew a sample of it.",
        f"sampling_steps={steps} with clipping is the scripts' sampling: it is slow and limits latents to "
        "one standard deviation. translate's sampler=dpm_solver steps=20 does neither.",
    ]
    return Experiment(2, groups, values, tuple(notes))


def _data(
    settings: Mapping[str, Any], paths: Mapping[str, Any], training: Mapping[str, Any], root: str | None
) -> dict[str, Any]:
    size = training.get("patch_size") or [256, 256]
    edges = {int(edge) for edge in (size if isinstance(size, list) else [size])}
    if len(edges) != 1:
        raise DataError(
            f"config: patch_size is {size}; expected a square, because images are made square here."
        )
    share = float(settings.get("train_split", 0.9))
    rest = round((1 - share) / 2, 6)
    found = root or paths.get("data_base_dir") or settings.get("data_base_dir")
    return {
        **({"root": str(Path(str(found)).expanduser().absolute())} if found else {}),
        **({"val_root": str(settings["val_dir"])} if settings.get("val_dir") else {}),
        "image_size": edges.pop(),
        "batch_size": int(training.get("batch_size", 8)),
        "fractions": [round(1 - 2 * rest, 6), rest, rest],
    }


def _trainer(training: Mapping[str, Any], epochs: int) -> dict[str, int]:
    return {
        "max_epochs": int(training.get("max_epochs", epochs)),
        "check_val_every_n_epoch": int(training.get("val_interval", 1)),
    }


def _head_channels(own: Mapping[str, Any]) -> int | list[int]:
    """Return the channels of an attention head: one number where all levels with attention agree."""
    given = own.get("num_head_channels", 8)
    if isinstance(given, int):
        return given
    used = {int(heads) for heads, attends in zip(given, own["attention_levels"], strict=True) if attends}
    return used.pop() if len(used) == 1 else [int(heads) for heads in given]


def _common_notes(settings: Mapping[str, Any]) -> list[str]:
    notes = [
        "pti splits by patient, the scripts split by slice: their weights may have seen every patient of "
        "their data set.",
        "masked_zscore gives the background the value of the tissue's mean: a decoded background isn't "
        "exactly 0.",
    ]
    if settings.get("augment"):
        notes.append(
            "augment=true is left out: choose data/augmentation=mild or scanner, which are not the scripts'."
        )
    if unknown := sorted(set(settings) - _KNOWN):
        notes.append(f"These settings have no counterpart and are left out: {', '.join(unknown)}.")
    return notes


def _vae_notes(settings: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    notes = [
        'The scripts\' "VGG" loss is LPIPS on SqueezeNet, which needs pti[lpips]; model/perceptual=lite0 '
        "needs no extra, but has another scale: begin with model.perceptual_weight=0.1.",
    ]
    if "data_source" in settings and float(training.get("kl_weight", 0)) > 0:
        notes.append(
            "kl_weight is copied. Later versions of the scripts take MONAI's standard deviation for a "
            "log-variance: if yours does, their weight means something else, and 1e-6 is a good beginning."
        )
    return notes


def _schedule(training: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the milestones that are reached as fractions of the training; the scripts' factor is 0.1."""
    length = int(training.get("max_epochs", epochs))
    reached = sorted({int(epoch) for epoch in training.get("lr_scheduler_milestones", [])})
    reached = [epoch for epoch in reached if 0 < epoch < length]
    if not reached:
        return {}
    milestones = [epoch / length for epoch in reached]
    return {"decay": "multistep", "milestones": milestones, "final_factor": 0.1 ** len(reached)}
