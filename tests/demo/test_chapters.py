"""The demo's command lines are accepted by their commands, and its page lists them."""

import itertools
import json
from pathlib import Path

import pytest

from pti.cli.overrides import check_command_line
from pti.demo.__main__ import settings
from pti.demo.chapters import TRAININGS, chapters
from pti.demo.page import write_page
from pti.demo.runner import printed_seconds_left


@pytest.mark.parametrize("minutes", [1, 15, 60])
@pytest.mark.parametrize("root", [None, Path("pairs")])
def test_commands_are_accepted(tmp_path, minutes, root):
    story = chapters(tmp_path, root, minutes, 8, 0)
    assert [chapter.verb for chapter in story][-1] == "evaluate"
    assert (story[0].verb == "make_phantom") is (root is None)
    for chapter in story:
        assert check_command_line(chapter.verb, chapter.command(tmp_path)[3:]).overridden, chapter.name


def test_minutes_scale_the_trainings(tmp_path):
    def batches(minutes: float) -> list[int]:
        counts = []
        for chapter in chapters(tmp_path, None, minutes, 8, 0):
            if chapter.trains:
                given = dict(part.split("=", 1) for part in chapter.command(tmp_path)[3:])
                whole = TRAININGS[given["experiment"]].batches
                limit = int(given.get("trainer.limit_train_batches", whole))
                counts.append(int(given["trainer.max_epochs"]) * limit)
        return counts

    lengths = [batches(minutes) for minutes in (1, 4, 15, 40)]
    assert all(
        less < more
        for short, long in itertools.pairwise(lengths)
        for less, more in zip(short, long, strict=True)
    )
    assert all(length >= 1 for length in lengths[0])


def test_the_last_epoch_is_validated(tmp_path):
    for minutes in (1, 7, 15, 33):
        for chapter in chapters(tmp_path, None, minutes, 8, 0):
            given = dict(part.split("=", 1) for part in chapter.command(tmp_path)[3:])
            every = int(given.get("trainer.check_val_every_n_epoch", 1))
            assert int(given.get("trainer.max_epochs", every)) % every == 0


def test_an_interrupted_training_is_resumed(tmp_path):
    chapter = next(chapter for chapter in chapters(tmp_path, None, 15, 8, 0) if chapter.name == "autoencoder")
    assert f"output_dir={tmp_path / 'autoencoder'}" in chapter.command(tmp_path)
    last = tmp_path / "autoencoder" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    assert chapter.command(tmp_path)[-1] == f"ckpt_path={last}"


def test_page_links_only_existing_files(tmp_path):
    story = chapters(tmp_path, None, 15, 8, 0)
    (tmp_path / "check").mkdir()
    (tmp_path / "check" / "check.html").touch()
    (tmp_path / "evaluation").mkdir()
    summary = {"figures": {"height_abs_error_mm": 0.51, "height_abs_error_mm of condition − mean loss": 1.04}}
    (tmp_path / "evaluation" / "summary.json").write_text(json.dumps(summary))
    page = write_page(story, tmp_path, {"check": 3.0}).read_text()
    assert 'href="check/check.html"' in page
    assert "report.html" not in page
    assert "<b>0.51 mm</b>" in page
    for chapter in story:
        assert chapter.title in page
        assert f"python -m pti.{chapter.verb}" in page


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("epoch 3/10  batch 9/170  0 s left", 0),
        ("Encoding: 7/22, 23 s left", 23),
        ("epoch 1/9  3 min 20 s left", 200),
        ("epoch 1/9  2 h 05 min left", 7500),
        ("nothing is left", None),
        ("", None),
    ],
)
def test_reads_the_time_that_a_command_prints(line, seconds):
    assert printed_seconds_left(line) == seconds


def test_demos_differ_in_their_settings():
    from omegaconf import DictConfig, OmegaConf

    config = DictConfig({"minutes": 15, "samples": 8, "seed": 0, "data": {"root": None}})
    other = config.copy()
    OmegaConf.update(other, "data.root", "pairs")
    assert settings(config) != settings(other)
