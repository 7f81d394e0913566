"""The split: stable, by patient, without empty splits."""

import pytest

from pti.common.errors import DataError, UsageError
from pti.data.layouts import Pair
from pti.data.patient_split import fold_of, fractions_of_root, split_patients, splits_of

FRACTIONS = (0.8, 0.1, 0.1)


def test_is_a_fixed_function_of_seed_and_patient() -> None:
    splits = split_patients(["545", "7", "A", "é"], seed=3, fractions=(0.5, 0.25, 0.25))
    assert splits == split_patients(["é", "A", "7", "545", "7"], seed=3, fractions=(0.5, 0.25, 0.25))
    many = [str(patient) for patient in range(50)]
    digest = "".join(split[1] for split in split_patients(many, 0, FRACTIONS).values())
    assert digest == "".join(split[1] for split in split_patients(many, 0, FRACTIONS).values())
    assert split_patients(many, 0, FRACTIONS) != split_patients(many, 1, FRACTIONS)
    # A fixed value: another one would move patients between the splits of existing data sets.
    splits = split_patients(many, 0, FRACTIONS)
    assert [patient for patient in many if splits[patient] == "val"] == ["15", "17", "22", "48"]


def test_adding_patients_moves_no_other_patient() -> None:
    few = split_patients([f"p{patient}" for patient in range(60)], 0, FRACTIONS)
    more = split_patients([f"p{patient}" for patient in range(400)], 0, FRACTIONS)
    assert few.items() <= more.items()


def test_shares_are_about_right() -> None:
    splits = list(split_patients(map(str, range(5000)), 0, FRACTIONS).values())
    assert abs(splits.count("train") / 5000 - 0.8) < 0.02
    assert abs(splits.count("val") / 5000 - 0.1) < 0.015


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_small_sets_fill_every_split(count: int) -> None:
    for seed in range(40):
        splits = split_patients(map(str, range(count)), seed, FRACTIONS)
        assert set(splits.values()) == {"train", "val", "test"}


def test_filling_a_split_moves_at_most_one_patient() -> None:
    for seed in range(40):
        few = split_patients(map(str, range(6)), seed, FRACTIONS)
        many = split_patients(map(str, range(300)), seed, FRACTIONS)
        moved = [patient for patient in few if few[patient] != many[patient]]
        assert len(moved) <= 2


def test_empty_shares_and_errors() -> None:
    assert set(split_patients("ab", 0, (1, 0, 0)).values()) == {"train"}
    assert set(split_patients("ab", 0, (0.5, 0.5, 0)).values()) == {"train", "val"}
    with pytest.raises(DataError, match=r"too few patients \(2\) .*fractions"):
        split_patients("ab", 0, FRACTIONS)
    for fractions in ((0.5, 0.1, 0.1), (1.2, -0.2, 0), (0, 0.5, 0.5)):
        with pytest.raises(UsageError, match="add up to 1"):
            split_patients("abc", 0, fractions)


def _pair(patient: str, split: str | None = None, name: str = "n") -> Pair:
    return Pair(name, patient, None, None, split)


def test_splits_of_the_table_take_precedence() -> None:
    pairs = [_pair("a", "test"), _pair("b", "train"), _pair("a"), _pair("c", "val")]
    assert splits_of(pairs, 0, FRACTIONS) == ["test", "train", "test", "val"]
    with pytest.raises(DataError, match="splits test and train"):
        splits_of([_pair("a", "test"), _pair("a", "train")], 0, FRACTIONS)
    with pytest.raises(DataError, match="odd: no patient"):
        splits_of([_pair("", name="odd")], 0, FRACTIONS)


FOLD_PATIENTS = [f"p{number}" for number in range(300)]


def folds(count: int, patients: list[str] = FOLD_PATIENTS) -> list[dict[str, str]]:
    shares = fractions_of_root(FRACTIONS, (), (0, count))
    return [split_patients(patients, 0, shares, (fold, count)) for fold in range(count)]


@pytest.mark.parametrize("count", [3, 5, 10])
def test_every_patient_is_tested_in_one_fold_and_validated_in_the_one_before(count: int) -> None:
    splits = folds(count)
    for patient in FOLD_PATIENTS:
        tested = [fold for fold in range(count) if splits[fold][patient] == "test"]
        validated = [fold for fold in range(count) if splits[fold][patient] == "val"]
        assert len(tested) == len(validated) == 1
        assert (validated[0] + 1) % count == tested[0]
    sizes = [list(fold.values()).count("test") for fold in splits]
    assert all(abs(size - 300 / count) < 30 for size in sizes)


def test_adding_patients_moves_no_other_patient_between_folds() -> None:
    more = folds(5, [f"p{number}" for number in range(1000)])
    assert all(few.items() <= many.items() for few, many in zip(folds(5), more, strict=True))


def test_folds_are_numbers_in_range_and_have_no_separate_roots() -> None:
    assert fold_of(None, 7) is None
    assert fold_of(5, 4) == (4, 5)
    for count, fold in ((2, 0), (5, 5), (5, -1)):
        with pytest.raises(UsageError, match=r"data\.fold"):
            fold_of(count, fold)
    with pytest.raises(UsageError, match=r"Remove data\.test_root or data\.folds"):
        fractions_of_root(FRACTIONS, ["test"], (0, 5))
