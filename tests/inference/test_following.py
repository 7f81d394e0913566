"""Settings of the data set in the next command."""

import pytest

from pti.inference.following import data_arguments
from pti.runs.exported import UNKNOWN_FOLDER

EXPORTED = {"root": UNKNOWN_FOLDER, "val_root": None, "test_root": None}


@pytest.mark.parametrize(
    ("data", "arguments", "expected"),
    [
        ({"root": "/data"}, ("ckpt=a.ckpt",), ""),
        ({"root": "/data"}, ("ckpt=a.ckpt", "data.root=other", "samples=2"), " data.root=other"),
        ({"root": "/data"}, ("data.root=my data", "data.fold=1"), " 'data.root=my data' data.fold=1"),
        ({"root": "/data"}, ("data.sources=both",), ""),
        (EXPORTED, (), " data.root=FOLDER"),
        (EXPORTED, ("data.root=other",), " data.root=other"),
        (EXPORTED | {"val_root": UNKNOWN_FOLDER}, ("data.root=a",), " data.root=a data.val_root=FOLDER"),
    ],
)
def test_the_next_command_finds_the_data_set(data, arguments, expected):
    assert data_arguments(data, arguments) == expected
