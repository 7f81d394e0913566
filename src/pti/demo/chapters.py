"""The chapters of the demo: the commands that it runs, their order and their expected duration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MODEL_ERROR = "height_abs_error_mm"
OFFSET_ERROR = "height_abs_error_mm of condition − mean loss"
"""Keys of the evaluation's ``summary.json``: the errors of the model and of its simplest baseline."""

# All durations were measured on the phantom with two cores.
_DEFAULT_MINUTES = 15
_FIXED_MINUTES = 4.5  # independent of the length of training: starting programs, checking, evaluating
_START_SECONDS = 15.0  # from the start of a training to its first batch
_ENCODING_SECONDS, _MAX_ENCODINGS = 6.0, 8  # of the training set, by ldm_demo
_EVALUATED = 90  # images that are evaluated in `_FIXED_MINUTES`
_TRANSLATED = 24  # images of the test set to translate before the evaluation, which translates all


@dataclass(frozen=True)
class Training:
    """Length of one of the demo's trainings.

    Attributes:
        epochs: Epochs within 15 minutes of demo: fewer than the experiment's own.
        epoch_seconds: Duration of an epoch.
        batches: Batches of an epoch on the phantom. Where the time is shorter than an epoch, the number of
            batches limits the training on any data set.
        validations: Number of validations; None = after every epoch.
    """

    epochs: int
    epoch_seconds: float
    batches: int
    validations: int | None = 4

    def epochs_in(self, minutes: float) -> float:
        """Return the number of epochs in a demo of this length; at least a small fraction of one."""
        share = (minutes - _FIXED_MINUTES) / (_DEFAULT_MINUTES - _FIXED_MINUTES)
        return self.epochs * max(share, 0.02 * minutes)

    def overrides(self, minutes: float) -> list[str]:
        """Return the trainer's settings for a demo of this length; the last epoch is validated."""
        epochs, every, limit = self.epochs_in(minutes), 1, []
        if epochs < 1:
            limit = [f"trainer.limit_train_batches={max(1, round(epochs * self.batches))}"]
        elif self.validations:
            every = max(1, round(epochs / self.validations))
        validation = [f"trainer.check_val_every_n_epoch={every}"] if self.validations else []
        return [f"trainer.max_epochs={every * max(1, round(epochs / every))}", *limit, *validation]


TRAININGS = {
    "vae_demo": Training(4, 60.0, 320, validations=None),
    "ldm_demo": Training(36, 4.5, 40),
    "regression_demo": Training(3, 25.0, 80),
}


@dataclass(frozen=True)
class Chapter:
    """One command of the demo.

    Attributes:
        name: Name of its folder below the demo's.
        verb: The command.
        arguments: Its command line, without ``output_dir``.
        title: Title on the display and the page.
        text: Explanation on the page.
        seconds: Expected duration on two cores.
        picture: Glob pattern of the picture on the page, below the chapter's folder; the last match counts.
        links: Title -> file or folder below the chapter's folder.
        metrics: Key of its ``summary.json`` -> label on the page.
        wide: True if the picture takes the whole width.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]
    title: str
    text: str
    seconds: float
    picture: str = ""
    links: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    wide: bool = False

    @property
    def trains(self) -> bool:
        """True if an interruption leaves a ``last.ckpt`` to resume from."""
        return self.verb == "train"

    def command(self, folder: Path) -> list[str]:
        """Return the command line, which resumes an interrupted training of the chapter."""
        last = folder / self.name / "checkpoints" / "last.ckpt"
        resumes = self.trains and last.is_file()
        place = f"ckpt_path={last}" if resumes else f"output_dir={folder / self.name}"
        return ["python", "-m", f"pti.{self.verb}", *self.arguments, place]


def chapters(folder: Path, root: Path | None, minutes: float, samples: int, seed: int) -> list[Chapter]:
    """Return the demo's commands in order.

    Args:
        folder: Folder of the demo.
        root: The user's own pairs; None = the phantom.
        minutes: Time for everything, on two CPU cores.
        samples: Samples per image.
        seed: Seed of trainings and samples.
    """
    data = f"data.root={root or folder / 'phantom'}"
    shared = (data, f"seed={seed}")
    autoencoder, diffusion, regression = (
        folder / name / "checkpoints" / "best.ckpt" for name in ("autoencoder", "diffusion", "regression")
    )
    evaluated = min(_EVALUATED, round(_EVALUATED * minutes / _FIXED_MINUTES))
    translated = min(_TRANSLATED, evaluated)
    limit = [f"num_samples={evaluated}"] if evaluated < _EVALUATED else []
    count = f"samples={samples}"
    return [
        *([] if root else [_phantom()]),
        _check(("data=phantom", data)),  # the data group of the demo's experiments
        *_trainings(shared, autoencoder, minutes),
        _translation((f"ckpt={diffusion}", count, *shared, f"num_samples={translated}"), samples, translated),
        _evaluation((f"ckpt=[{diffusion},{regression}]", count, *shared, *limit), evaluated),
    ]


def _phantom() -> Chapter:
    return Chapter(
        "phantom",
        "make_phantom",
        (),
        "Draw a data set",
        "Synthetic cross-sections of a jaw with a tooth, and of the same bone after the tooth was lost. "
        "Because they are synthetic, the true bone is known exactly. How it heals depends partly on what the "
        "image shows, and partly on chance.",
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
        "Before training, every file is opened and every pair compared. The report lists faulty files, "
        "duplicates, misaligned or swapped partners, and patients in more than one split.",
        10,
        links={"report": "check.html"},
        metrics={"pairs": "pairs", "patients": "patients", "errors": "errors", "warnings": "warnings"},
    )


def _trainings(shared: tuple[str, ...], autoencoder: Path, minutes: float) -> list[Chapter]:
    def training(name: str, experiment: str, title: str, text: str, *more: str) -> Chapter:
        length = TRAININGS[experiment]
        epochs = length.epochs_in(minutes)
        seconds = _START_SECONDS + epochs * length.epoch_seconds
        if experiment == "ldm_demo":
            seconds += _ENCODING_SECONDS * min(_MAX_ENCODINGS, max(1.0, epochs))
        metrics = {
            "best/val/psnr": "PSNR [dB]",
            "best/val/bone_dice": "Dice score of the bone",
            "best/val/bone_height_error_mm": "height error [mm]",
        }
        arguments = (f"experiment={experiment}", *more, *shared, *length.overrides(minutes))
        links = {"run": ".", "curves": "images/curves.png"}
        return Chapter(name, "train", arguments, title, text, seconds, "images/epoch=*.png", links, metrics)

    return [
        training(
            "autoencoder",
            "vae_demo",
            "Train the autoencoder",
            "An adversarial variational autoencoder learns to compress an image of 128 × 128 pixels to "
            "4 × 32 × 32 latents and to reconstruct it. Later stages cannot recover what it loses. The "
            "picture shows patients of the validation set, which were not used for training.",
        ),
        training(
            "diffusion",
            "ldm_demo",
            "Train the diffusion model",
            "In the latent space, a flow learns to transform a dente image into its edente image. Healing is "
            "partly random, so the model can draw many samples, each from different noise. These values are "
            "those of a single sample.",
            f"autoencoder_ckpt={autoencoder}",
        ),
        training(
            "regression",
            "regression_demo",
            "Train the baseline",
            "One deterministic pass from dente to edente: the reference that a generative model has to beat. "
            "It predicts the mean of all outcomes, a ridge that no patient has.",
        ),
    ]


def _translation(arguments: tuple[str, ...], samples: int, images: int) -> Chapter:
    return Chapter(
        "translation",
        "translate",
        arguments,
        "Translate unseen patients",
        f"{samples} samples per image for up to {images} images of the test set, their mean, and where they "
        "differ.",
        15 + 0.7 * images,
        "pictures/**/*.png",
        {"pictures": "pictures", "samples": "samples", "table": "manifest.csv"},
        wide=True,
    )


def _evaluation(arguments: tuple[str, ...], images: int) -> Chapter:
    return Chapter(
        "evaluation",
        "evaluate",
        arguments,
        "Evaluate the model",
        "The bone in millimetres, compared with baselines; the calibration of the samples' intervals; the "
        "error of the autoencoder alone; and a search for samples that copy a training image.",
        30 + 1.8 * images,
        links={"report": "report.html"},
        metrics={
            MODEL_ERROR: "height error of the median sample [mm]",
            OFFSET_ERROR: "height error of dente minus the mean loss [mm]",
            "height_abs_error_mm of linear regression on the condition": "the same of linear regression [mm]",
            "height 90% interval, corrected, holds": "coverage of nominal 90 % intervals of the height",
        },
    )
