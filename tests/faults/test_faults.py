"""The fault page (``page.txt``) is complete, and the tests that it names exist."""

import ast
from pathlib import Path

from helpers.fault_page import read_page

TESTS = Path(__file__).parents[1]
FAULTS, REPORTED = 43, 21


def test_every_fault_has_a_row_with_tests_in_order():
    numbers = [fault.number for fault in read_page()]
    expected = [
        *(f"{number:02d}" for number in range(1, FAULTS + 1)),
        *(f"F{number:02d}" for number in range(1, REPORTED + 1)),
    ]
    assert list(dict.fromkeys(numbers)) == expected
    assert numbers == sorted(numbers)
    assert all(fault.phrase and fault.tests for fault in read_page())


def test_the_tests_exist_and_stand_in_one_row_each():
    nodes = [node for fault in read_page() for node in fault.tests]
    assert len(set(nodes)) == len(nodes)
    for node in nodes:
        path, _, function = node.partition("::")
        tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        names = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
        assert function.split("[")[0] in names, node
