"""Faster trainings."""

import pytest


@pytest.fixture(autouse=True)
def without_curves(without_curves: None) -> None:
    """Omit ``curves.png`` at the end of the trainings of each test, except in fixtures of whole modules."""
