"""Choice of the slices that the report shows."""

import pytest

from pti.evaluate.gallery import spread_over_patients


@pytest.mark.parametrize(
    ("patients", "expected"),
    [("aabbc", [0, 2, 4]), ("aaaab", [0, 4, 1]), ("aaaaa", [0, 1, 2]), ("ab", [0, 1])],
)
def test_slices_are_of_different_patients_if_there_are_enough(patients, expected):
    assert spread_over_patients(list(patients), range(len(patients)), 3) == expected
