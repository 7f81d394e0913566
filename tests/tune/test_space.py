"""Search spaces: what they accept, what they refuse, and what the trainings get."""

import optuna
import pytest

from pti.common.errors import UsageError
from pti.tune.space import Parameter, read_space, typed

CONFIG = {
    "model": {
        "kl_weight": 1e-6,
        "ema_decay": None,
        "reconstruction": {"_target_": "l2"},
        "optimizer": {"lr": 1e-4, "betas": [0.9, 0.999]},
    },
    "data": {"batch_size": 8, "root": "x"},
}
GROUPS = {"model/reconstruction": ["l1", "l2"], "space": ["vae"]}


def read(space):
    return read_space(space, CONFIG, GROUPS)


def test_ranges_get_the_type_of_their_key():
    space = {
        "model": {"kl_weight": {"low": 1, "high": 4}, "ema_decay": {"low": 1, "high": 3}},
        "data": {"batch_size": {"low": 2, "high": 8, "step": 2}},
    }
    by_key = {parameter.key: parameter for parameter in read(space)}
    assert not by_key["model.kl_weight"].whole
    assert by_key["data.batch_size"].whole
    assert by_key["model.ema_decay"].whole


@pytest.mark.parametrize("space", [{"model.kl_weight": [1e-6, 1e-5]}, {"model": {"kl_weight": [1e-6, 1e-5]}}])
def test_dotted_and_nested_keys_are_the_same(space):
    assert read(space) == [Parameter("model.kl_weight", choices=(1e-6, 1e-5))]


@pytest.mark.parametrize("key", ["model.reconstruction", "model/reconstruction"])
def test_the_place_of_a_group_searches_its_options(key):
    (parameter,) = read({key: ["l1", "l2"]})
    assert parameter.override("l1") == "model/reconstruction=l1"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space=NAME, one of vae"),
        ({"model.kl_weight": 3}, r"space\.model\.kl_weight: expected \{low"),
        ({"model.kl_weight": {"low": 1e-6}}, r"expected \{low"),
        ({"model.kl_weight": {"low": 1, "high": "2"}}, r"expected \{low"),
        ({"model.kl_weight": {"low": 2, "high": 1}}, "low is 2 and high is 1"),
        ({"model.kl_weight": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"model.kl_weight": {"low": 1, "high": 2, "log": True, "step": 1}}, "exclude each other"),
        ({"model.kl_weight": {"low": 1, "high": 2, "step": 3}}, "step is 3"),
        ({"model.kl_weight": {"low": 1, "high": 2, "setp": 3}}, "Did you mean step"),
        ({"model.kl_weight": [1]}, "two or more"),
        ({"model.kl_weight": [1, 1]}, "two or more different"),
        ({"model.kl_weight": {"choices": [1, 2], "low": 1}}, "choices alone"),
        ({"data.batch_size": {"low": 1, "high": 2.5}}, "whole numbers, as its default 8"),
        ({"model.optimizer": {"low": 1, "high": 2}}, r"one of them: model\.optimizer\.lr"),
        ({"model.reconstruction": {"low": 1, "high": 2}}, r"a list of options, such as \[l1, l2\]"),
        ({"data.root": ["a", "b"]}, "can't be searched"),
        ({"resume": ["auto", "null"]}, "can't be searched"),
    ],
)
def test_refusals(space, message):
    with pytest.raises(UsageError, match=message):
        read(space)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-7, "1e-07"),
        (True, "true"),
        (None, "null"),
        ([4, 8], "[4,8]"),
        ("l1", "l1"),
        ("null", "'null'"),
        ("1e3", "'1e3'"),
        ("a b", "'a b'"),
        ("true", "'true'"),
    ],
)
def test_values_as_they_are_typed(value, text):
    assert typed(value) == text


def test_a_stored_choice_becomes_its_value_again():
    parameter = Parameter("model.optimizer.betas", choices=([0.9, 0.999], [0.5, 0.9]))
    study = optuna.create_study()
    study.enqueue_trial({"model.optimizer.betas": "[0.5,0.9]"})
    trial = study.ask()
    assert parameter.suggest(trial) == [0.5, 0.9]
    assert parameter.value_of("[0.5,0.9]") == [0.5, 0.9]


def test_drawn_numbers_keep_their_range_and_step():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    whole, real = Parameter("a", 2, 8, step=3, whole=True), Parameter("b", 1e-6, 1e-2, log=True)
    drawn = [(whole.suggest(trial), real.suggest(trial)) for trial in (study.ask() for _ in range(50))]
    assert {number for number, _ in drawn} == {2, 5, 8}
    assert all(1e-6 <= number <= 1e-2 for _, number in drawn)
    assert 10 < sum(number < 1e-4 for _, number in drawn) < 40
