"""Caches that weren't used for long are removed; nothing else is."""

import os
import time
from pathlib import Path

import pytest

from pti.data.cache_age import UNUSED_DAYS, remove_unused
from pti.data.image_cache import open_cache
from pti.data.layouts import paired_folders

DAY = 86400


def old(folder: Path, *files: str, days: float = UNUSED_DAYS + 1) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


def test_what_is_old_goes(tmp_path):
    images = old(tmp_path / "0123456789abcdef-256", "images.npy", "rows.json")
    lock = tmp_path / "0123456789abcdef-256.lock"
    lock.touch()
    latents = old(tmp_path / "0123456789abcdef01234567", "view_000.npy", "view_001.part")
    younger = old(tmp_path / "fedcba9876543210-256", "images.npy", "rows.json", days=UNUSED_DAYS - 1)
    assert remove_unused(tmp_path) == [images, latents]
    assert not images.exists()
    assert not lock.exists()
    assert younger.is_dir()


@pytest.mark.parametrize(
    ("name", "file"),
    [("results", "images.npy"), ("0123456789abcdef-256", "notes.txt"), ("latents", "view_000.npy")],
)
def test_what_is_no_cache_stays(tmp_path, name, file):
    folder = old(tmp_path / name, file)
    assert remove_unused(tmp_path) == []
    assert (folder / file).exists()


def test_opening_counts_as_use_and_building_tidies(paired_set, tmp_path):
    def build(size: int) -> Path:
        return open_cache(paired_folders(paired_set), size, tmp_path / "cache").folder

    first, second = build(16), build(24)
    for folder in (first, second):
        os.utime(folder, (0, 0))
    assert build(16) == first  # opened, not built: nothing is removed
    assert second.is_dir()
    build(32)
    assert first.is_dir()
    assert not second.exists()


def test_a_cache_that_cannot_be_marked_is_used_all_the_same(paired_set, tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    first = open_cache(paired_folders(paired_set), 16, tmp_path / "cache")
    monkeypatch.setattr("pti.data.cache_age.os.utime", refused)
    again = open_cache(paired_folders(paired_set), 16, tmp_path / "cache")
    assert again.folder == first.folder
    assert (again.row(0) == first.row(0)).all()
