"""File names that are not valid UTF-8, in hashes and in text files."""

import os

from pti.common.files import to_bytes, to_valid_text, write_json_atomically, write_text_atomically
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
