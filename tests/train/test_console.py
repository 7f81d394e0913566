"""Text around training."""

import pytest

from helpers.training_setup import configuration
from pti.train.console import counted
from pti.train.run import train


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [
        (1, "batch", "1 batch"),
        (2, "batch", "2 batches"),
        (2, "epoch", "2 epochs"),
        (1, "image", "1 image"),
        (0, "step", "0 steps"),
    ],
)
def test_a_number_with_its_noun(number, name, text):
    assert counted(number, name) == text


@pytest.mark.parametrize("count", [1, 2])
def test_the_plan_counts_in_plain_english(root, tmp_path, capsys, monkeypatch, count):
    monkeypatch.setenv("COLUMNS", "160")
    settings = (f"trainer.max_epochs={count}", f"trainer.limit_train_batches={count}")
    assert train(configuration(root, tmp_path, *settings, "trainer.max_steps=1"), tmp_path) == 0
    output = capsys.readouterr().out
    expected = "1 epoch of 1 batch" if count == 1 else "2 epochs of 2 batches"
    assert f"{expected}, at most 1 step " in output
    assert ".." not in output.replace("...", "")
