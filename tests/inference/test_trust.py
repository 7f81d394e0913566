"""Trust in a translator without a network, fitted on phantoms: hits, false alarms, storage, refusal."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny_checkpoints import LAYOUT
from helpers.tiny_translator import TinyTranslator
from pti.common.errors import DataError, UsageError
from pti.data import tif
from pti.data.input_images import find_images
from pti.data.phantom import make_phantom
from pti.data.phantom.pairs import draw_pairs
from pti.data.phantom.style import DEFAULT, Style, random_style
from pti.inference.gate import Gate, open_gate
from pti.inference.loaded import LoadedTranslator
from pti.inference.trust import REASON, TRUST, TrustReference
from pti.inference.trust_fit import TrustFit
from pti.runs.checkpoint import Checkpoint
from pti.runs.constructors import CheckpointError

SIZE = 64
DATA = {"layout": LAYOUT, "fractions": [0.5, 0.5, 0.0], "split_seed": 0, "image_size": SIZE}


@pytest.fixture(scope="module")
def translator(tmp_path_factory) -> LoadedTranslator:
    root = tmp_path_factory.mktemp("data") / "phantom"
    make_phantom(root, patients=140, slices=1, image_size=SIZE, seed=1)
    config = {"data": {**DATA, "root": str(root), "pixel_mm": 0.15}}
    return LoadedTranslator(Checkpoint(Path("tiny.ckpt"), {"config": config}), TinyTranslator())


@pytest.fixture(scope="module")
def reference(translator) -> TrustReference:
    return TrustFit()(translator)


def write(folder: Path, images: list[np.ndarray]) -> list:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        tif.write(folder / f"{number:03d}.tif", image.astype(np.float32), 0.15)
    return find_images(folder)


def unseen(count: int, style: Style = DEFAULT) -> list[np.ndarray]:
    return [next(draw_pairs(1, patient, 1, SIZE, 0.15, style)).dente for patient in range(1000, 1000 + count)]


def flagged(folder: Path, reference: TrustReference, images: list[np.ndarray]) -> list[bool]:
    judge = Gate(reference, SIZE).open(TinyTranslator(), write(folder, images), torch.device("cpu"))
    return [bool(reference.judge(scores)[REASON]) for scores in judge.inputs.values()]


def inverted(image: np.ndarray) -> np.ndarray:
    return np.where(image != 0, image[image != 0].max() + 1 - image, 0)


FOREIGN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upside down": lambda image: image[::-1],
    "a quarter turned": np.rot90,
    "inverted": inverted,
    "another unit": lambda image: image / 1000,
    "8 bits": lambda image: np.ceil(image / image.max() * 255),
    "wrapped at 16 bits": lambda image: np.where(image != 0, (image - 2500) % 65536, 0),
    "cropped": lambda image: image[16:48, 16:48],
    "the upper half": lambda image: image[:32],
    "noise outside": lambda image: np.where(image != 0, image, np.random.default_rng(0).random(image.shape)),
    "empty": lambda image: 0 * image,
}


def test_unseen_patients_are_admitted(tmp_path, reference):
    assert sum(flagged(tmp_path, reference, unseen(100))) <= 4  # 2 expected at most


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_inputs_are_flagged(tmp_path, reference, kind):
    assert np.mean(flagged(tmp_path, reference, [FOREIGN[kind](image) for image in unseen(20)])) >= 0.95


@pytest.mark.parametrize("seed", range(3))
def test_other_styles_are_flagged(tmp_path, reference, seed):
    assert np.mean(flagged(tmp_path, reference, unseen(10, random_style(seed)))) >= 0.95


def answers(
    reference: TrustReference, folder: Path, change: Callable[[np.ndarray], list[np.ndarray]]
) -> list:
    """The verdicts on answers that `change` makes of the images of unseen patients."""
    images = unseen(10)
    judge = Gate(reference, SIZE).open(TinyTranslator(), write(folder, images), torch.device("cpu"))
    return [judge(f"{n:03d}", image, change(image), True) for n, image in enumerate(images)]


def cut(image: np.ndarray, rows: int = 4) -> np.ndarray:
    """Take the usual number of rows from the top, as the translator does."""
    first = int(np.flatnonzero((image != 0).any(1))[0])
    return np.where(np.arange(len(image))[:, None] < first + rows, 0, image)


def test_answers_are_judged_by_what_they_change_and_by_their_disagreement(tmp_path, reference):
    usual = answers(reference, tmp_path, lambda image: [cut(image, 3), cut(image, 5)])
    assert sum(bool(verdict[REASON]) for verdict in usual) <= 1
    base = answers(
        reference, tmp_path, lambda image: [np.where(np.arange(SIZE)[:, None] > 50, 0, cut(image))]
    )
    assert all("what the answer changes" in verdict[REASON] for verdict in base)
    apart = answers(reference, tmp_path, lambda image: [0.3 * cut(image), 1.7 * cut(image)])
    assert all(verdict[REASON] for verdict in apart)


def test_an_answer_without_bone_is_never_trusted(reference):
    assert reference.judge({"intensity": 1.0}, has_bone=False) == {
        TRUST: 0.0,
        REASON: "the answer contains no bone",
    }


def test_a_reference_survives_its_checkpoint(tmp_path, reference):
    torch.save({"trust": reference.as_plain()}, tmp_path / "file.ckpt")
    content = torch.load(tmp_path / "file.ckpt", weights_only=True)
    again = TrustReference.of_checkpoint(content, "file.ckpt")
    assert again is not None
    scores = dict.fromkeys(reference.limit.scales, 1.0)
    assert again.judge(scores) == reference.judge(scores)
    feature = np.arange(7.0)
    assert again.distances["intensity"].distance(feature) == reference.distances["intensity"].distance(
        feature
    )


@pytest.mark.parametrize("damage", [{}, [], {"distances": {}, "limit": {"scales": {"length": [0, 1]}}}])
def test_a_damaged_reference_is_named(damage):
    with pytest.raises(CheckpointError, match="its reference for trust is damaged"):
        TrustReference.of_checkpoint({"trust": damage}, "file.ckpt")


def test_strict_refuses_and_names_foreign_inputs_only(tmp_path, reference):
    images = write(tmp_path, [*unseen(3), unseen(1)[0][::-1]])
    gate = Gate(reference, SIZE, strict=True)
    expected = r"1 of 4 inputs are unlike those of the training:\n  003: the .*standard deviations"
    with pytest.raises(DataError, match=expected) as caught:
        gate.open(TinyTranslator(), images, torch.device("cpu"))
    assert not re.search("00[012]", str(caught.value))
    gate.open(TinyTranslator(), images[:3], torch.device("cpu"))


def test_older_checkpoints_say_that_nothing_can_be_judged(translator, capsys):
    assert open_gate(translator.checkpoint, False, 4) is None
    assert "no reference" in capsys.readouterr().out
    with pytest.raises(UsageError, match="strict=true: the checkpoint has no reference"):
        open_gate(translator.checkpoint, True, 4)


def test_too_few_validation_patients_are_refused(translator):
    config = {"data": {**translator.data, "fractions": [0.99, 0.01, 0.0]}}
    few = replace(translator, checkpoint=replace(translator.checkpoint, content={"config": config}))
    with pytest.raises(DataError, match="1 validation patient, expected 5 or more"):
        TrustFit()(few)
