"""Values that every command refuses, or accepts, in the same way."""

import pytest

from helpers.training_setup import arguments
from pti.cli.overrides import check_command_line
from pti.cli.preflight import MAX_SEED
from pti.common.errors import UsageError
from pti.train.preflight import check_config

SEEDED = ["train", "translate", "evaluate", "analyze", "explore", "make_phantom", "demo"]


@pytest.mark.parametrize("command", SEEDED)
def test_a_seed_that_a_library_refuses(command):
    for seed in ("-1", "4294967296", "null"):
        with pytest.raises(UsageError, match=rf"seed={seed}: expected a whole number from 0 to 4294967295"):
            check_command_line(command, [f"seed={seed}"])
    assert MAX_SEED == 4294967295
    assert check_command_line(command, [f"seed={MAX_SEED}"])


@pytest.mark.parametrize("key", ["data.seed", "data.split_seed"])
def test_a_seed_of_the_data_that_a_library_refuses(key):
    for seed in ("-1", "4294967296"):
        with pytest.raises(UsageError, match=rf"{key}={seed}: expected a whole number from 0 to 4294967295"):
            check_command_line("train", ["experiment=smoke", f"{key}={seed}"])
    assert check_command_line("train", ["experiment=smoke", f"{key}={MAX_SEED}"])


def test_a_decimal_comma():
    with pytest.raises(UsageError, match=r"data\.pixel_mm=0,6: .* -m.*a point: data\.pixel_mm=0\.6"):
        check_command_line("train", ["data.pixel_mm=0,6"])
    with pytest.raises(UsageError, match=r"subtitle=a,b: .* -m.*quotes: subtitle='\"a,b\"'"):
        check_command_line("analyze", ["subtitle=a,b"])
    assert check_command_line("analyze", ["subtitle='a,b'"])
    assert len(check_command_line("train", ["-m", "seed=0,6"]).jobs) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=smoke", "data.num_workers=auto"],
        ["trainer=cpu", "trainer.devices=auto"],
        ["experiment=smoke", "data.num_workers=2"],
    ],
)
def test_auto_is_accepted_where_a_group_replaced_it_by_a_number(overrides):
    assert check_command_line("train", overrides)


@pytest.mark.parametrize(
    "override", ["data.augmentation=none", "model.perceptual=lpips", "data.layout=csv_table"]
)
def test_an_option_is_chosen_with_a_slash(override):
    with pytest.raises(UsageError, match=rf"{override}: .* write {override.replace('.', '/', 1)}[.]"):
        check_command_line("train", ["experiment=vae_demo", override])


@pytest.mark.parametrize("override", ["data.batch_size=many", "data.num_workers=many"])
def test_other_words_are_still_refused(override):
    with pytest.raises(UsageError, match=override.replace(".", r"\.").replace("=", "='?")):
        check_command_line("train", ["experiment=smoke", override])


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "transformer-engine", "8"])
def test_a_precision_that_does_not_train(root, precision):
    with pytest.raises(UsageError, match=rf"trainer\.precision={precision}: .*bf16-mixed"):
        _checked(root, f"trainer.precision={precision}")


@pytest.mark.parametrize("precision", ["32-true", "32", "bf16-mixed", "16-mixed", "64-true"])
def test_precisions_that_train(root, precision):
    assert _checked(root, f"trainer.precision={precision}")


@pytest.mark.parametrize("workers", ["many", "-1"])
def test_loader_processes_are_counted(root, workers):
    with pytest.raises(UsageError, match=rf"data\.num_workers={workers}: expected auto or a whole number"):
        _checked(root, "data.num_workers=auto", f"data.num_workers={workers}")


def _checked(root, *overrides: str):
    return check_command_line("train", arguments(root, *overrides), lambda config: check_config(config, True))
