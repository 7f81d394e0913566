"""The search: the same trials however often it is stopped, pruned and failed trials, several objectives."""

import math
from dataclasses import replace

import optuna
import pytest

from pti.common.errors import DataError
from pti.tune.results import collect
from pti.tune.search import FAILED, FINISHED, PRUNED, Search, status_of
from pti.tune.settings import Objective, TuneSettings
from pti.tune.space import Parameter

KL = Parameter("model.kl_weight", 1e-8, 1e-2, log=True)
SPACE = [KL, Parameter("model/reconstruction", choices=("l1", "l2"))]
SETTINGS = TuneSettings(
    experiment="smoke",
    overrides=[],
    parameters=SPACE,
    objectives=[Objective("val/l1", "min")],
    trials=12,
    method="tpe",
    random_trials=4,
    pruning="median",
    prune_after_trials=3,
    prune_after_epochs=2,
    seed=0,
    training={"trainer": {"max_epochs": 4}},
    data_roots=[],
)


def validation(values, epoch):
    error = (math.log10(values["model.kl_weight"]) + 6) ** 2 + (values["model/reconstruction"] == "l1")
    return error + 1 / (epoch + 1)


def train(search, trial):
    """Report the epochs of a trial and end it."""
    values = search.draw(trial)
    for epoch in range(4):
        if search.report(trial, epoch, validation(values, epoch)):
            search.end(trial, PRUNED)
            return
    search.end(trial, FINISHED, values=[validation(values, 3)])


def outcome(search):
    return [
        (trial.params, trial.values, status_of(trial), trial.intermediate_values) for trial in search.trials
    ]


def run_all(folder, settings=SETTINGS):
    folder.mkdir()
    search = Search(folder, settings)
    while (trial := search.begin()) is not None:
        train(search, trial)
    return search


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing stops."""
    return run_all(tmp_path_factory.mktemp("search") / "whole")


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_a_search_that_is_stopped_everywhere_draws_the_same_trials(tmp_path, whole, method):
    """Stop it before values are stored, and in each epoch."""
    settings = SETTINGS if method == "tpe" else replace(SETTINGS, method=method, trials=6)
    expected = outcome(whole if method == "tpe" else run_all(tmp_path / "whole", settings))
    (tmp_path / "stopped").mkdir()
    for number in range(settings.trials):
        search = Search(tmp_path / "stopped", settings)
        if number % 3 == 0:
            search.study.ask()  # killed before any value was drawn …
        elif number % 3 == 1:
            stopped = search.begin()
            assert stopped is not None
            for epoch in range(number % 4):
                if search.report(stopped, epoch, validation(search.draw(stopped), epoch)):
                    break  # … or before it was ended
        search = Search(tmp_path / "stopped", settings)
        trial, *others = search.interrupted() or [search.begin()]
        assert trial is not None
        assert trial.number == number
        assert not others
        train(search, trial)
    assert Search(tmp_path / "stopped", settings).begin() is None
    assert outcome(Search(tmp_path / "stopped", settings)) == expected


def test_another_seed_draws_other_trials(tmp_path, whole):
    other = run_all(tmp_path / "1", replace(SETTINGS, seed=1, trials=1))
    assert whole.trials[0].params != other.trials[0].params
    assert len({trial.params["model.kl_weight"] for trial in whole.trials}) == SETTINGS.trials


def test_tpe_finds_better_values_than_its_random_beginning(tmp_path):
    trials = run_all(tmp_path / "s", replace(SETTINGS, trials=24, random_trials=6, pruning="none")).trials
    costs = [validation(trial.params, 3) for trial in trials]
    assert sum(costs[12:]) / 12 < 0.5 * sum(costs[:6]) / 6


def test_pruning_spares_the_first_trials_epochs_and_the_last_epoch(tmp_path, whole):
    pruned = [trial for trial in whole.trials if status_of(trial)[0] == PRUNED]
    assert pruned
    assert min(trial.number for trial in pruned) >= SETTINGS.prune_after_trials
    assert all(SETTINGS.prune_after_epochs <= len(trial.intermediate_values) < 4 for trial in pruned)
    without = run_all(tmp_path / "n", replace(SETTINGS, pruning="none", trials=6)).trials
    assert all(len(trial.intermediate_values) == 4 for trial in without)


def test_a_failed_trial_is_avoided_and_keeps_its_reason(tmp_path):
    """Values that fail are drawn rarely after the random beginning, although no failure has a metric."""
    (tmp_path / "s").mkdir()
    settings = replace(SETTINGS, trials=30, random_trials=10)
    search = Search(tmp_path / "s", settings)
    while (trial := search.begin()) is not None:
        values = search.draw(trial)
        if values["model.kl_weight"] > 1e-5:
            search.end(trial, FAILED, "loss is not finite")
        else:
            search.end(trial, FINISHED, values=[1.0])
    failed = [trial.number for trial in search.trials if status_of(trial) == (FAILED, "loss is not finite")]
    assert len([number for number in failed if number < 10]) >= 3
    assert len([number for number in failed if number >= 20]) <= 5


def test_the_best_trials_of_two_objectives(tmp_path):
    goals = [Objective("val/l1", "min"), Objective("val/ssim", "max")]
    settings = replace(SETTINGS, objectives=goals, pruning="none", trials=5)
    search = Search(tmp_path, settings)
    for values in ([1.0, 0.1], [2.0, 0.9], [2.0, 0.5], [3.0, 0.9], [1.1, 0.8]):
        trial = search.begin()
        assert trial is not None
        assert not search.report(trial, 0, 1.0)
        search.end(trial, FINISHED, values=values)
    results = collect(search, settings, tmp_path)
    assert [trial.number for trial in results.best] == [0, 4, 1]
    assert results.compromise is not None
    assert results.compromise.number == 4


@pytest.mark.parametrize("name", ["a?b", "a{b}", "a%20b#c", "données", "a b;'"])
def test_folders_with_special_characters(tmp_path, name):
    run_all(tmp_path / name, replace(SETTINGS, trials=1))
    assert {path.name for path in (tmp_path / name).iterdir()} == {"study.db"}
    assert len(Search(tmp_path / name, SETTINGS).trials) == 1


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / "study.db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(DataError, match=r"study\.db: can't be used"):
        Search(tmp_path, SETTINGS)


def test_other_programs_can_open_the_study(tmp_path):
    run_all(tmp_path / "s", replace(SETTINGS, trials=2))
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path}/s/study.db")
    assert len(study.trials) == 2
