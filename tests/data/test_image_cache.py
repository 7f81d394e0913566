"""The image cache: equal images, rebuilt after changes, complete after a kill, built by one process."""

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.image_sets import WriteSet, disc
from pti.common.errors import DataError
from pti.data import tif
from pti.data.image_cache import FileImages, ImageCache
from pti.data.layouts import paired_folders, single_folder


def files_below(folder: Path) -> list[str]:
    """List the names of all files except locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_same_images_as_the_files(write_set: WriteSet, tmp_path: Path) -> None:
    pairs = paired_folders(write_set(patients=3, slices=2, size=40))
    cache, files = ImageCache(pairs, 32, tmp_path / "cache"), FileImages(pairs, 32)
    for index in range(len(pairs)):
        for role in ("condition", "target"):
            assert np.array_equal(cache.image(index, role), files.image(index, role))
        assert cache.pixel_mm(index, 9.0) == files.pixel_mm(index, 9.0) == pytest.approx(0.15 * 40 / 32)
    assert cache.fingerprint == files.fingerprint
    assert cache.stored_dtypes == {"float32": 12}
    assert not cache.image(0, "target").flags.writeable


def test_default_pixel_size_and_missing_roles(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=2, slices=1) / "edente"
    for path in root.iterdir():
        tif.write(path, disc(1, 64))
    cache = ImageCache(single_folder(root), 32, tmp_path / "cache")
    assert cache.pixel_mm(0, 0.2) == pytest.approx(0.4)
    with pytest.raises(IndexError, match="no condition"):
        cache.image(0, "condition")


def test_any_change_makes_another_cache(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=2, slices=1)
    pairs = paired_folders(root)
    fingerprints = [ImageCache(pairs, 32, tmp_path / "cache").fingerprint]
    assert ImageCache(pairs, 32, tmp_path / "cache").fingerprint == fingerprints[0]
    changed = root / "edente" / f"{pairs[0].name}.tif"
    tif.write(changed, np.full((32, 32), 7))  # same size, other content: the modification time differs
    cache = ImageCache(pairs, 32, tmp_path / "cache")
    assert (cache.image(0, "target") == 7).all()
    fingerprints.append(cache.fingerprint)
    fingerprints.append(ImageCache(pairs, 16, tmp_path / "cache").fingerprint)
    changed.rename(changed.with_name("x_HA_2021_02_000.tif"))
    fingerprints.append(ImageCache(paired_folders(root), 32, tmp_path / "cache").fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)


def test_each_process_maps_the_file_itself(write_set: WriteSet, tmp_path: Path) -> None:
    pairs = paired_folders(write_set(patients=2, slices=1, size=64))
    cache = ImageCache(pairs, 64, tmp_path / "cache")
    first = cache.image(0, "target")
    sent = pickle.dumps(cache)
    assert len(sent) < 10_000
    assert np.array_equal(pickle.loads(sent).image(0, "target"), first)


def test_every_bad_file_is_named(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=3, slices=1)
    pairs = paired_folders(root)
    for pair in pairs[:2]:
        assert pair.target is not None
        pair.target.write_bytes(pair.target.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        ImageCache(pairs, 32, tmp_path / "cache")
    assert all(f"{pair.target}: is truncated" in str(caught.value) for pair in pairs[:2])
    assert files_below(tmp_path / "cache") == []
    (root / "edente" / f"{pairs[0].name}.tif").unlink()
    with pytest.raises(DataError, match=rf"{pairs[0].name}.*can't be found"):
        ImageCache(pairs, 32, tmp_path / "cache")


def test_an_unusable_cache_folder_is_named(write_set: WriteSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache can't be written .*data\.cache_dir"):
        ImageCache(paired_folders(write_set()), 32, tmp_path / "file" / "cache")


BUILD = """if True:
    import sys, time
    from pathlib import Path
    from pti.data import image_cache as cache
    from pti.data.layouts import paired_folders
    def slow(path, read=cache.read):
        time.sleep(0.05)
        print("read", flush=True)
        return read(path)
    cache.read = slow
    opened = cache.ImageCache(paired_folders(Path(sys.argv[1])), 32, Path(sys.argv[2]), workers=1)
    print(opened.image(0, "target").sum())
"""


def _builder(root: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", BUILD, root, folder], stdout=subprocess.PIPE, text=True)


def test_killed_builder_leaves_no_cache(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=20, slices=2)
    process = _builder(root, tmp_path / "cache")
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline() == "read\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert files_below(tmp_path / "cache") == ["images.part"]
    pairs = paired_folders(root)
    start = time.monotonic()
    cache = ImageCache(pairs, 32, tmp_path / "cache")
    assert time.monotonic() - start < 10
    files = FileImages(pairs, 32)
    assert all(np.array_equal(cache.row(row), files.row(row)) for row in range(len(files.files)))
    assert files_below(tmp_path / "cache") == ["images.npy", "rows.json"]


def test_one_of_two_builders_waits(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=4, slices=2)
    processes = [_builder(root, tmp_path / "cache") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(output.count("read") for output in outputs) == 16
    assert outputs[0][-1] == outputs[1][-1]
