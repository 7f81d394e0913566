"""The split: stable, by patient, no empty sides."""

import pytest

from pti.common.errors import DataError, UsageError
from pti.data.layouts import Pair
from pti.data.patient_split import split_patients, splits_of

FRACTIONS = (0.8, 0.1, 0.1)


def test_is_a_fixed_function_of_seed_and_patient() -> None:
    sides = split_patients(["545", "7", "A", "é"], seed=3, fractions=(0.5, 0.25, 0.25))
    assert sides == split_patients(["é", "A", "7", "545", "7"], seed=3, fractions=(0.5, 0.25, 0.25))
    many = [str(patient) for patient in range(50)]
    digest = "".join(side[1] for side in split_patients(many, 0, FRACTIONS).values())
    assert digest == "".join(side[1] for side in split_patients(many, 0, FRACTIONS).values())
    assert split_patients(many, 0, FRACTIONS) != split_patients(many, 1, FRACTIONS)
    # Written down: another value here would move patients between the sides of everyone's data.
    assert [patient for patient, side in split_patients(many, 0, FRACTIONS).items() if side == "val"] == [
        "15",
        "17",
        "22",
        "48",
    ]


def test_adding_patients_moves_nobody() -> None:
    few = split_patients([f"p{patient}" for patient in range(60)], 0, FRACTIONS)
    more = split_patients([f"p{patient}" for patient in range(400)], 0, FRACTIONS)
    assert few.items() <= more.items()


def test_shares_are_about_right() -> None:
    sides = list(split_patients(map(str, range(5000)), 0, FRACTIONS).values())
    assert abs(sides.count("train") / 5000 - 0.8) < 0.02
    assert abs(sides.count("val") / 5000 - 0.1) < 0.015


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_small_sets_fill_every_side(count: int) -> None:
    for seed in range(40):
        sides = split_patients(map(str, range(count)), seed, FRACTIONS)
        assert set(sides.values()) == {"train", "val", "test"}


def test_a_loan_moves_one_patient_at_most_a_side() -> None:
    for seed in range(40):
        few = split_patients(map(str, range(6)), seed, FRACTIONS)
        many = split_patients(map(str, range(300)), seed, FRACTIONS)
        moved = [patient for patient in few if few[patient] != many[patient]]
        assert len(moved) <= 2


def test_empty_shares_and_errors() -> None:
    assert set(split_patients("ab", 0, (1, 0, 0)).values()) == {"train"}
    assert set(split_patients("ab", 0, (0.5, 0.5, 0)).values()) == {"train", "val"}
    with pytest.raises(DataError, match=r"2 patients can't fill .*fractions"):
        split_patients("ab", 0, FRACTIONS)
    for fractions in ((0.5, 0.1, 0.1), (1.2, -0.2, 0), (0, 0.5, 0.5)):
        with pytest.raises(UsageError, match="add up to 1"):
            split_patients("abc", 0, fractions)


def _pair(patient: str, split: str | None = None, name: str = "n") -> Pair:
    return Pair(name, patient, None, None, split)


def test_what_the_table_says_wins() -> None:
    pairs = [_pair("a", "test"), _pair("b", "train"), _pair("a"), _pair("c", "val")]
    assert splits_of(pairs, 0, FRACTIONS) == ["test", "train", "test", "val"]
    with pytest.raises(DataError, match="splits test and train"):
        splits_of([_pair("a", "test"), _pair("a", "train")], 0, FRACTIONS)
    with pytest.raises(DataError, match="odd: no patient"):
        splits_of([_pair("", name="odd")], 0, FRACTIONS)
