"""The chapters of the demo: which commands it runs, in which order, and how long each takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MODEL_ERROR = "height_abs_error_mm"
OFFSET_ERROR = "height_abs_error_mm of condition − mean loss"
"""Keys of the evaluation's ``summary.json``: the two numbers that the story comes down to."""

_FULL_LENGTH = {"vae_demo": 4, "ldm_demo": 36, "regression_demo": 3}
"""Epochs that `minutes` = 15 pays for on two cores: fewer than the experiments' own."""

_EPOCH = {"vae_demo": 60.0, "ldm_demo": 4.5, "regression_demo": 25.0}
"""Seconds for one on the phantom, on two cores."""

_VIEW, _VIEWS = 6.0, 8
"""Seconds for encoding the training set once, and how often ldm_demo does, at the most."""

_BATCHES = {"vae_demo": 320, "ldm_demo": 40, "regression_demo": 80}
"""In an epoch on the phantom. Where less than one epoch is paid for, a number does on any data set."""

_VALIDATIONS = 4

_BEGINNING = 15.0
"""Seconds until a training has begun."""

_FIXED = 4.5
"""Minutes that don't depend on the length of training: starting programs, checking, evaluating."""

_IMAGES = 90
"""That are evaluated at the most, where `minutes` doesn't pay for all: so many in `_FIXED`."""

_SHOWN = 24
"""Images of the test set that are translated before the evaluation, which takes them all."""


@dataclass(frozen=True)
class Chapter:
    """One command of the demo.

    Attributes:
        name: of its folder below the demo's.
        verb: the command.
        arguments: its command line, without ``output_dir``.
        title: what happens, for the display and the page.
        text: what the reader of the page should know.
        seconds: that it takes on two cores, about.
        picture: what the page shows: a pattern below the chapter's folder, the last match counts.
        links: title -> file or folder below the chapter's folder.
        figures: keys of its ``summary.json`` that the page shows -> what they are called.
        wide: whether the picture takes the whole width.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]
    title: str
    text: str
    seconds: float
    picture: str = ""
    links: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    wide: bool = False

    @property
    def trains(self) -> bool:
        """Whether an interruption leaves a ``last.ckpt`` to go on from."""
        return self.verb == "train"

    def command(self, folder: Path) -> list[str]:
        """The command line, going on with what an earlier start has left in the chapter's folder."""
        last = folder / self.name / "checkpoints" / "last.ckpt"
        again = [f"ckpt_path={last}"] if self.trains and last.is_file() else []
        where = [] if again else [f"output_dir={folder / self.name}"]
        return ["python", "-m", f"pti.{self.verb}", *self.arguments, *where, *again]


def chapters(folder: Path, root: Path | None, minutes: float, samples: int, seed: int) -> list[Chapter]:
    """The demo's commands in order.

    Args:
        folder: of the demo.
        root: the user's own pairs; None = the phantom.
        minutes: for all of it, on two CPU cores.
        samples: of each image.
        seed: of trainings and samples.
    """
    data = f"data.root={root or folder / 'phantom'}"
    given = (data, f"seed={seed}")
    best = {
        name: folder / name / "checkpoints" / "best.ckpt"
        for name in ("autoencoder", "diffusion", "regression")
    }
    paid = round(_IMAGES * minutes / _FIXED)
    shown = min(_SHOWN, paid)
    drawn = f"samples={samples}"
    both = f"ckpt=[{best['diffusion']},{best['regression']}]"
    return [
        *([] if root else [_phantom()]),
        _check(("data=phantom", data)),  # the group that the demo's experiments take
        _autoencoder(given, minutes),
        _diffusion((f"autoencoder_ckpt={best['autoencoder']}", *given), minutes),
        _regression(given, minutes),
        _translation((f"ckpt={best['diffusion']}", drawn, *given, f"num_samples={shown}"), samples, shown),
        _evaluation(
            (both, drawn, *given, *([] if paid >= _IMAGES else [f"num_samples={paid}"])), min(paid, _IMAGES)
        ),
    ]


def _phantom() -> Chapter:
    return Chapter(
        "phantom",
        "make_phantom",
        (),
        "Draw a data set",
        "Cross-sections of jaws with a tooth, and the same bone after it was lost. They are drawn, so that "
        "the true bone is known exactly; how much of it heals depends partly on what the image shows, "
        "partly on chance.",
        26,
        "preview.png",
        {"images": ".", "truth": "truth.csv"},
    )


def _check(arguments: tuple[str, ...]) -> Chapter:
    return Chapter(
        "check",
        "check",
        arguments,
        "Check the data",
        "Before anything is trained, every file is opened and every pair compared: faults, duplicates, "
        "shifted or exchanged partners, patients on both sides of the split. Each is named in the report.",
        10,
        links={"report": "check.html"},
        figures={"pairs": "pairs", "patients": "patients", "errors": "errors", "warnings": "warnings"},
    )


def _autoencoder(given: tuple[str, ...], minutes: float) -> Chapter:
    return _training(
        "autoencoder",
        "vae_demo",
        given,
        minutes,
        "Train the autoencoder",
        "An adversarial variational autoencoder learns to write an image of 128 × 128 pixels as 4 × 32 × 32 "
        "latents and to read it again. What it loses here, no later stage can know. Patients of the "
        "validation set, which it has not learnt from:",
    )


def _diffusion(given: tuple[str, ...], minutes: float) -> Chapter:
    return _training(
        "diffusion",
        "ldm_demo",
        given,
        minutes,
        "Train the diffusion model",
        "In the latents, a flow learns to lead from the dente image to its edente image. How the bone heals"
        " is partly chance, so it gives many answers, each from noise of its own; the figures are of one.",
    )


def _regression(given: tuple[str, ...], minutes: float) -> Chapter:
    return _training(
        "regression",
        "regression_demo",
        given,
        minutes,
        "Train the baseline",
        "One deterministic pass from dente to edente: what a generative model has to justify itself against. "
        "It gives the mean of all outcomes, whose ridge no patient has.",
    )


def _training(
    name: str, experiment: str, given: tuple[str, ...], minutes: float, title: str, text: str
) -> Chapter:
    arguments = (f"experiment={experiment}", *given, *_length(experiment, minutes))
    epochs = _epochs(experiment, minutes)
    seconds = _BEGINNING + epochs * _EPOCH[experiment]
    if experiment == "ldm_demo":
        seconds += _VIEW * min(_VIEWS, max(1.0, epochs))
    figures = {
        "best/val/psnr": "PSNR [dB]",
        "best/val/bone_dice": "Dice of the bone",
        "best/val/bone_height_error_mm": "height error [mm]",
    }
    links = {"run": ".", "curves": "images/curves.png"}
    return Chapter(name, "train", arguments, title, text, seconds, "images/epoch=*.png", links, figures)


def _translation(arguments: tuple[str, ...], samples: int, shown: int) -> Chapter:
    return Chapter(
        "translation",
        "translate",
        arguments,
        "Translate patients never seen",
        f"{samples} samples each for images of the test set, here {shown} at the most; their mean, and where "
        "they differ.",
        15 + 0.7 * shown,
        "pictures/**/*.png",
        {"pictures": "pictures", "samples": "samples", "table": "manifest.csv"},
        wide=True,
    )


def _evaluation(arguments: tuple[str, ...], images: int) -> Chapter:
    return Chapter(
        "evaluation",
        "evaluate",
        arguments,
        "Measure it",
        "Bone in millimetres, beside the baselines; whether the spread of the samples tells the truth; what "
        "the autoencoder alone loses; whether a sample repeats a training image.",
        30 + 1.8 * images,
        links={"report": "report.html"},
        figures={
            MODEL_ERROR: "height error of the median sample [mm]",
            OFFSET_ERROR: "of dente minus the mean loss [mm]",
            "height_abs_error_mm of linear regression on the condition": "of linear regression on dente [mm]",
            "height 90% interval, corrected, holds": "share of the heights that 90 % intervals hold",
        },
    )


def _epochs(experiment: str, minutes: float) -> float:
    """What is left of the time beside the fixed parts; where that is nothing, something all the same."""
    return _FULL_LENGTH[experiment] * max((minutes - _FIXED) / (15 - _FIXED), 0.02 * minutes)


def _length(experiment: str, minutes: float) -> list[str]:
    """Fewer or more epochs than the experiment's own, or some batches; the last epoch is validated."""
    epochs = _epochs(experiment, minutes)
    if epochs < 1:
        batches = max(1, round(epochs * _BATCHES[experiment]))
        return ["trainer.max_epochs=1", f"trainer.limit_train_batches={batches}", *_every(experiment, 1)]
    every = max(1, round(epochs / _VALIDATIONS)) if experiment != "vae_demo" else 1
    return [f"trainer.max_epochs={every * max(1, round(epochs / every))}", *_every(experiment, every)]


def _every(experiment: str, epochs: int) -> list[str]:
    """Stage 1 validates after each of its few epochs."""
    return [] if experiment == "vae_demo" else [f"trainer.check_val_every_n_epoch={epochs}"]
