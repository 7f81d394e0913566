"""Folders for one process each; file names that are not valid UTF-8, in hashes and in text files."""

import os
from concurrent.futures import ThreadPoolExecutor

from pti.common.files import (
    create_unused_folder,
    to_bytes,
    to_valid_text,
    write_json_atomically,
    write_text_atomically,
)
from pti.common.randomness import sample_generator

NAME = os.fsdecode(b"1000_H\xe4_2021_02_545")


def test_a_name_is_hashed_as_its_bytes():
    assert to_bytes(NAME) == b"1000_H\xe4_2021_02_545"
    assert to_bytes("é") == "é".encode()
    assert (
        sample_generator(0, NAME, 0).initial_seed()
        != sample_generator(0, "1000_H_2021_02_545", 0).initial_seed()
    )


def test_a_name_is_written_as_an_escape(tmp_path):
    write_text_atomically(tmp_path / "a.csv", f"é,{NAME}\n")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "é,1000_H\\udce4_2021_02_545\n"
    assert to_valid_text(NAME) == "1000_H\\udce4_2021_02_545"
    write_json_atomically(tmp_path / "a.json", {NAME: "é"})
    (tmp_path / "a.json").read_text(encoding="utf-8")


def test_each_process_gets_its_own_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(create_unused_folder, [tmp_path / "runs" / "12-00-00"] * 8))
    names = {folder.name for folder in folders}
    assert names == {"12-00-00", *(f"12-00-00_{number}" for number in range(2, 9))}
    assert all(folder.is_dir() for folder in folders)
