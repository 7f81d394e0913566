"""Opening of exported models: the same model as the checkpoint's, or one clear refusal."""

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny_checkpoints import TRANSLATOR, save
from pti.common.errors import UsageError
from pti.export.safetensors_folder import write_safetensors
from pti.runs.checkpoint import CheckpointError, open_checkpoint
from pti.runs.constructors import build
from pti.runs.exported import CONFIG, WEIGHTS
from pti.runs.locate import resolve
from pti.runs.renamed import FORMAT


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    path = save(folder / "best.ckpt", build(TRANSLATOR, "the test"), TRANSLATOR, folder)
    checkpoint = open_checkpoint(path)
    write_safetensors(checkpoint, checkpoint.load_module(), folder / "model")
    return folder / "model"


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    """Copy an exported model, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def change(folder: Path, **changes: Any) -> None:
    """Replace keys of config.json; None removes one."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config))


def replace_weights(folder: Path, data: bytes) -> None:
    """Replace the weights by others, with the right hash."""
    (folder / WEIGHTS).write_bytes(data)
    change(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def test_a_folder_opens_by_its_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert resolve("model") == folder
    opened = open_checkpoint("model")
    assert opened.path == folder
    assert opened.content.keys() == {"format", "config", "state_dict"}
    assert opened.load_module().normalization is not None
    assert opened.sha256 == hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest()


def test_a_folder_without_its_weights_is_no_checkpoint(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(UsageError, match="expected a checkpoint, found a folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("place", [0, 9, 2000, -1])
def test_a_changed_byte_of_the_weights_is_noticed(folder, place):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[place] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*wrong SHA-256"):
        open_checkpoint(folder)


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tensors",
        struct.pack("<Q", 2**63) + b"{}",
        with_header(b"[" * 100_000),
        with_header({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, bytes(4)),
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**62]}}, bytes(4)),
        with_header({"a": {"dtype": "pickle", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(400)),
    ],
)
def test_weights_that_are_none_are_refused(folder, data):
    replace_weights(folder, data)
    with pytest.raises(CheckpointError, match=r"model") as caught:
        open_checkpoint(folder).load_module()
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", "[" * 100_000, '{"format": NaN}', '{"a":' * 500 + "1" + "}" * 500, "1" * 5000, "\ud800"],
)
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / CONFIG).write_text(text, errors="surrogatepass")
    with pytest.raises(CheckpointError, match=r"config\.json: ") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "without model"),
        ({"weights_sha256": None, "data": None}, "without data, weights_sha256"),
        ({"model": "text"}, "not an object"),
        ({"weights_sha256": ["x"]}, "wrong SHA-256"),
        ({"format": FORMAT + 1}, "newer version"),
        ({"format": "2"}, "newer version"),
        ({"model": {"_target_": "os.system", "command": "true"}}, "not among the"),
        ({"model": {**TRANSLATOR, "optimizer": {"_target_": "builtins.eval"}}}, "not among the"),
        ({"model": {**TRANSLATOR, "sampling_steps": "${oc.env:HOME}"}}, "evaluated"),
        ({"model": {**TRANSLATOR, "hidden": 1}}, "no argument hidden"),
        ({"model": TRANSLATOR["network"]}, "weights don't fit"),
        ({"model": {**TRANSLATOR["network"], "channels": [4096, 4096]}}, "more weights than"),
    ],
)
def test_a_hostile_or_foreign_config_is_refused(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder).load_module()
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_state_of_a_training_is_not_taken_from_it(folder):
    change(folder, loops={}, optimizer_states=[], callbacks={"a": 1})
    assert open_checkpoint(folder).content.keys() == {"format", "config", "state_dict"}


def test_a_fifo_in_place_of_the_weights_is_not_opened(folder):
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(UsageError):
        open_checkpoint(folder)


def test_the_opened_weights_do_not_change_with_the_file(folder):
    state = open_checkpoint(folder).state
    before = {name: value.clone() for name, value in state.items()}
    (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in state.items())
