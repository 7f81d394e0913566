"""Collection of the fault page: ``pytest tests/faults`` runs every test that ``page.txt`` names.

Most of these tests live elsewhere in ``tests/``, beside what they test. Only if the page alone is run, they
are collected here as ``test_fault[NUMBER PHRASE]``, the slow ones too, in the page's order, in one process.
In any other run they keep their names and places, so that no test ever runs twice.
"""

from collections import Counter
from pathlib import Path

import pytest

from helpers.fault_page import Fault, read_page

HERE = Path(__file__).parent
PAGE = HERE / "test_faults.py"
FAULTS = read_page()
ROWS = {node: (place, fault) for place, fault in enumerate(FAULTS) for node in fault.tests}
REST = (len(FAULTS), None)  # tests of the page itself, which belong to no row


def runs_page_alone(config: pytest.Config) -> bool:
    paths = {config.invocation_params.dir / arg for arg in config.args}
    elsewhere = [path for path in paths if HERE not in (path, *path.parents)]
    return bool({HERE, PAGE} & paths) and all(_node(path) in ROWS for path in elsewhere)


def _node(path: Path) -> str:
    return path.relative_to(HERE.parent).as_posix() if path.is_relative_to(HERE.parent) else ""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its processes
def pytest_cmdline_main(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or not runs_page_alone(config):
        return
    given = [word for word in config.invocation_params.args if not word.startswith("--")]
    if not any(word.startswith("-n") for word in given):
        config.option.numprocesses = 0
    if not any(word.startswith("-m") for word in given):
        config.option.markexpr = ""
    config.args += [str(HERE.parent / node) for node in ROWS if not node.startswith("faults/")]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not runs_page_alone(config):
        return
    rows = {item: _row(item) for item in items}
    unchosen = [item for item in items if rows[item] == REST and item.get_closest_marker("slow")]
    if not config.option.markexpr:  # slow tests outside the rows run only on request
        config.hook.pytest_deselected(items=unchosen)
        items[:] = [item for item in items if item not in unchosen]
    items.sort(key=lambda item: rows[item][0])
    tests = Counter(place for place, _ in rows.values())
    for item in items:
        place, fault = rows[item]
        if fault is not None:
            title = f"{fault.number} {fault.phrase}"
            if tests[place] > 1:
                title += f": {_case(item, several=len({node.split('[')[0] for node in fault.tests}) > 1)}"
            item.name = f"test_fault[{title}]"
            node = f"{PAGE.relative_to(config.rootpath).as_posix()}::{item.name}"
            item._nodeid = node  # pyright: ignore[reportAttributeAccessIssue]


def _row(item: pytest.Item) -> tuple[int, Fault | None]:
    node = item.nodeid.removeprefix("tests/")
    return ROWS.get(node) or ROWS.get(node.split("[")[0]) or REST


def _case(item: pytest.Item, several: bool) -> str:
    """Describe one of the tests of a row, which may be of several functions."""
    function, _, parameters = item.name.partition("[")
    words = function.removeprefix("test_").replace("_", " ")
    return ", ".join(filter(None, (words if several or not parameters else "", parameters[:-1])))
