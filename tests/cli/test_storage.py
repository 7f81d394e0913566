"""Folders that can't be written to: messages before and during the work."""

import errno
import os
from pathlib import Path

import pytest

from pti.cli.storage import require_writable, storage_error
from pti.common.errors import DataError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_explained_with_the_file_and_the_free_space(tmp_path, number):
    error = storage_error(OSError(number, os.strerror(number), str(tmp_path / "a.tif")), tmp_path)
    assert str(error).startswith(f"{tmp_path / 'a.tif'}: the disk is full ({os.strerror(number)}; ")
    assert "MB free" in str(error)
    assert f"output_dir={tmp_path}" in str(error)


def test_numpys_error_without_a_number_counts_as_a_full_disk(tmp_path):
    error = storage_error(OSError("16384 requested and 0 written"), tmp_path)
    assert str(error).startswith(f"{tmp_path}: the disk is full")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_refusal_names_the_folder(tmp_path, number):
    assert f"{tmp_path}: access is refused" in str(storage_error(OSError(number, "no"), tmp_path))


@pytest.mark.parametrize("error", [OSError(errno.ECONNRESET, "reset"), ValueError("a bug")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    assert storage_error(error, tmp_path) is None


def test_a_folder_that_can_be_created_is_accepted_and_not_created(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(DataError, match=r"output_dir=.*: can't be created .*outputs: Not a directory"):
        require_writable(tmp_path / "outputs" / "translate")
