"""The chapters of the demo: the commands that it runs, their order and their expected duration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pti.common.path_settings import as_value

# All durations were measured on the phantom with two cores.
_DEFAULT_MINUTES = 15
_FIXED_MINUTES = 4.5  # independent of the length of training: starting programs, checking, evaluating
_START_SECONDS = 15.0  # from the start of a training to its first batch
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
        encoding_seconds: Duration of encoding the training set, once per epoch, at most 8 times.
        trust_seconds: Duration of what follows the last epoch: the reference for trust.
    """

    epochs: int
    epoch_seconds: float
    batches: int
    validations: int | None = 4
    encoding_seconds: float = 0.0
    trust_seconds: float = 0.0

    def seconds(self, minutes: float) -> float:
        """Return the duration of the training in a demo of this length."""
        epochs = self.epochs_in(minutes)
        encoding = self.encoding_seconds * min(8, max(1.0, epochs))
        return _START_SECONDS + epochs * self.epoch_seconds + encoding + self.trust_seconds

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
    "ldm_demo": Training(36, 4.5, 40, encoding_seconds=6.0, trust_seconds=28.0),
    "regression_demo": Training(3, 25.0, 80, trust_seconds=15.0),
}


@dataclass(frozen=True)
class Chapter:
    """One command of the demo.

    Attributes:
        name: Name of its folder below the demo's.
        verb: The command.
        title: Title on the display and the page.
        seconds: Expected duration on two cores.
        arguments: Its command line, without ``output_dir``.
    """

    name: str
    verb: str
    title: str
    seconds: float
    arguments: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """True if an interruption leaves a ``last.ckpt`` to resume from."""
        return self.verb == "train"

    def command(self, folder: Path) -> list[str]:
        """Return the command line, which resumes an interrupted training of the chapter."""
        last = folder / self.name / "checkpoints" / "last.ckpt"
        resumes = self.trains and last.is_file()
        place = f"ckpt_path={as_value(last)}" if resumes else f"output_dir={as_value(folder / self.name)}"
        return ["python", "-m", f"pti.{self.verb}", *self.arguments, place]


def chapters(folder: Path, root: Path | None, minutes: float, samples: int, seed: int) -> list[Chapter]:
    """Return the demo's commands in order; the page explains them in ``templates/demo.html``.

    Args:
        folder: Folder of the demo.
        root: The user's own pairs; None = the phantom.
        minutes: Time for everything, on two CPU cores.
        samples: Samples per image.
        seed: Seed of trainings and samples.
    """
    data = f"data.root={as_value(root or folder / 'phantom')}"
    shared = (data, f"seed={seed}")
    vae, ldm, regression = (
        as_value(folder / name / "checkpoints" / "best.ckpt")
        for name in ("autoencoder", "diffusion", "regression")
    )

    def train(name: str, title: str, experiment: str, *overrides: str) -> Chapter:
        training = TRAININGS[experiment]
        arguments = (f"experiment={experiment}", *overrides, *shared, *training.overrides(minutes))
        return Chapter(name, "train", title, training.seconds(minutes), arguments)

    evaluated = min(_EVALUATED, round(_EVALUATED * minutes / _FIXED_MINUTES))
    translated = min(_TRANSLATED, evaluated)
    sampling = (f"samples={samples}", *shared)
    translation = (f"ckpt={ldm}", *sampling, f"num_samples={translated}")
    limit = [f"num_samples={evaluated}"] if evaluated < _EVALUATED else []
    evaluation = (f"ckpt=[{ldm},{regression}]", *sampling, *limit)
    return [
        *([] if root else [Chapter("phantom", "make_phantom", "Draw a data set", 26)]),
        # data=phantom: the data group of the demo's experiments
        Chapter("check", "check", "Check the data", 10, ("data=phantom", data)),
        train("autoencoder", "Train the autoencoder", "vae_demo"),
        train("diffusion", "Train the diffusion model", "ldm_demo", f"autoencoder_ckpt={vae}"),
        train("regression", "Train the baseline", "regression_demo"),
        Chapter("translation", "translate", "Translate unseen patients", 15 + 0.7 * translated, translation),
        Chapter("evaluation", "evaluate", "Evaluate the model", 30 + 1.8 * evaluated, evaluation),
    ]
