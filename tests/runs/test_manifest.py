"""A folder belongs to the settings whose results lie in it."""

import pytest

from pti.common.errors import UsageError
from pti.runs.manifest import FILE, Manifest

ARTEFACTS = ("table.csv",)


def work(folder, settings, result: str | None = None, fails: bool = False) -> None:
    with Manifest(folder, settings, ARTEFACTS):
        if result is not None:
            (folder / result).write_text("1")
        if fails:
            raise RuntimeError("trouble")


def test_results_of_other_settings_are_refused(tmp_path):
    work(tmp_path / "out", {"of": "a"}, "table.csv")
    with pytest.raises(UsageError, match="of was a, now b"):
        work(tmp_path / "out", {"of": "b"})


def test_a_failure_without_results_leaves_the_folder_to_other_settings(tmp_path):
    with pytest.raises(RuntimeError):
        work(tmp_path / "out", {"of": "a"}, fails=True)
    work(tmp_path / "out", {"of": "b"}, "table.csv")
    assert (tmp_path / "out" / FILE).is_file()


def test_a_failure_after_results_keeps_what_they_belong_to(tmp_path):
    with pytest.raises(RuntimeError):
        work(tmp_path / "out", {"of": "a"}, "table.csv", fails=True)
    with pytest.raises(UsageError, match="of was a, now b"):
        work(tmp_path / "out", {"of": "b"})


def test_somebody_elses_files_are_refused(tmp_path):
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"table\.csv"):
        work(tmp_path, {"of": "a"})
