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
    assert output.startswith("plan ")
    assert output.index(" train ") < output.index(" val ")
    validated = count == 1  # else the limit of steps ends the training before the first validation
    assert output.rstrip().endswith("split=val" if validated else "input_dir=FOLDER")


def test_paths_in_the_plan_can_be_copied_from_a_narrow_terminal(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "a_folder_whose_name_is_long_enough_to_need_more_than_one_line"
    assert train(configuration(root, folder, "trainer.max_epochs=1"), folder) == 0
    capsys.readouterr()
    last = folder / "checkpoints" / "last.ckpt"
    resumed = configuration(root, folder, "trainer.max_epochs=2", f"ckpt_path={last}")
    assert train(resumed, folder) == 0
    output = capsys.readouterr().out
    assert f"  start    resumes {last} after 6 batches\n" in output
    assert f"  folder   {folder}\n" in output
