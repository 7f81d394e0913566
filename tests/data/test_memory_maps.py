"""Mapped arrays are read-only, complete or invisible; only caches that were unused for long are removed."""

import os
import time
from pathlib import Path

import pytest

from pti.data.image_cache import ImageCache
from pti.data.layouts import paired_folders
from pti.data.memory_maps import UNUSED_DAYS, MappedArray, remove_unused

DAY = 86400


def old(folder: Path, *files: str, days: float = UNUSED_DAYS + 1) -> Path:
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


def test_an_array_is_invisible_until_it_is_finished(tmp_path):
    array = MappedArray(tmp_path / "folder" / "array.npy")
    array.create((2, 3))
    rows = array.unfinished()
    rows[:] = [[1, 2, 3], [4, 5, 6]]
    rows.flush()
    assert not array.exists
    array.finish()
    assert array.exists
    assert array.values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not array.values.flags.writeable
    assert [path.name for path in array.path.parent.iterdir()] == ["array.npy"]


def test_a_discarded_array_leaves_no_file(tmp_path):
    array = MappedArray(tmp_path / "array.npy")
    array.create((2, 3))
    array.discard()
    assert list(tmp_path.iterdir()) == []


def test_old_caches_are_removed(tmp_path):
    images = old(tmp_path / "0123456789abcdef-256", "images.npy", "rows.json", ".lock")
    latents = old(tmp_path / "0123456789abcdef01234567", "view_000.npy", "view_001.part")
    younger = old(tmp_path / "fedcba9876543210-256", "images.npy", "rows.json", days=UNUSED_DAYS - 1)
    assert remove_unused(tmp_path) == [images, latents]
    assert not images.exists()
    assert younger.is_dir()


@pytest.mark.parametrize(
    ("name", "file"),
    [("results", "images.npy"), ("0123456789abcdef-256", "notes.txt"), ("latents", "view_000.npy")],
)
def test_other_folders_are_kept(tmp_path, name, file):
    folder = old(tmp_path / name, file)
    assert remove_unused(tmp_path) == []
    assert (folder / file).exists()


def test_opening_counts_as_use_and_building_removes_unused_caches(paired_set, tmp_path):
    def build(size: int) -> Path:
        return ImageCache(paired_folders(paired_set), size, tmp_path / "cache").folder

    first, second = build(16), build(24)
    for folder in (first, second):
        os.utime(folder, (0, 0))
    assert build(16) == first  # opened, not built: nothing is removed
    assert second.is_dir()
    build(32)
    assert first.is_dir()
    assert not second.exists()


def test_a_cache_on_a_read_only_disk_is_usable(paired_set, tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    first = ImageCache(paired_folders(paired_set), 16, tmp_path / "cache")
    monkeypatch.setattr("pti.data.memory_maps.os.utime", refused)
    again = ImageCache(paired_folders(paired_set), 16, tmp_path / "cache")
    assert again.folder == first.folder
    assert (again.row(0) == first.row(0)).all()
