from pathlib import Path

import numpy as np
import pytest

from pti.common.errors import DataError
from pti.data import tif
from pti.evaluate.predictions import match_folders, method_names
from pti.runs.manifest import EVENLY_SPREAD, FILE

NAMES = ("1000_HA_2021_02_545", "1001_HA_2021_02_545", "1000_HA_2021_02_700")


@pytest.fixture
def write(tmp_path):
    def write(folder: str, *names: str) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            tif.write(path / f"{name}.tif", np.ones((8, 8), np.float32))
        return path

    return write


def test_images_are_matched_by_name(write):
    predictions, targets = write("predicted", *NAMES[:2]), write("true", *NAMES)
    matched = match_folders({"model": predictions}, targets, write("dente", *NAMES))
    assert [case.name for case in matched.cases] == sorted(NAMES[:2])
    case = matched.cases[0]
    assert case.patient == "545"
    assert case.condition is not None
    assert case.condition.parent.name == "dente"
    assert [path.name for path in case.predictions["model"]] == [f"{NAMES[0]}.tif"]
    assert matched.notes == [f"1 of 3 targets have no prediction: {NAMES[2]}"]


def test_samples_are_matched_in_order_also_below_a_translate_folder(write, tmp_path):
    write("out/samples", *(f"{name}_s{sample:02d}" for name in NAMES for sample in (10, 0, 2)))
    write("out/mean", *NAMES)
    matched = match_folders({"model": tmp_path / "out"}, write("true", *NAMES))
    files = [path.stem[-3:] for path in matched.cases[0].predictions["model"]]
    assert files == ["s00", "s02", "s10"]
    assert not matched.notes


def test_reconstructions_are_found_below_a_reconstruct_folder(write, tmp_path):
    write("out/reconstructions", *NAMES)
    write("out/comparisons", *NAMES)
    matched = match_folders({"model": tmp_path / "out"}, write("true", *NAMES))
    assert [path.parent.name for path in matched.cases[0].predictions["model"]] == ["reconstructions"]


def test_a_name_that_looks_like_a_sample_is_itself(write):
    targets = write("true", "jaw_s01", "jaw")
    matched = match_folders({"model": write("predicted", "jaw_s01", "jaw")}, targets)
    assert [len(case.predictions["model"]) for case in matched.cases] == [1, 1]


def test_images_without_a_patient_count_as_patients(write):
    matched = match_folders({"model": write("predicted", "a", "b")}, write("true", "a", "b"))
    assert [case.patient for case in matched.cases] == ["a", "b"]
    assert "2 names" in matched.notes[0]


def test_mismatches_are_named(write):
    targets = write("true", *NAMES)
    with pytest.raises(DataError, match=r"no image has the name of one in .*Found other; expected"):
        match_folders({"model": write("a", "other")}, targets)
    uneven = [f"{name}_s{sample:02d}" for name in NAMES for sample in (0, 1)][:-1]
    with pytest.raises(DataError, match=f"most slices have 2 samples, {NAMES[2]}"):
        match_folders({"model": write("b", *uneven)}, targets)
    with pytest.raises(DataError, match=f"{NAMES[1]}: no condition of this name"):
        match_folders({"model": targets}, targets, write("c", NAMES[0], NAMES[2]))
    with pytest.raises(DataError, match="no slice has a prediction by every method"):
        match_folders({"x": write("d", NAMES[0]), "y": write("e", NAMES[1])}, targets)


def test_images_without_a_target_are_noted(write):
    matched = match_folders({"model": write("predicted", *NAMES, "other")}, write("true", *NAMES))
    assert matched.notes == ["1 images of model have no target and are left out: other"]


def test_methods_are_named_after_their_folders():
    assert list(method_names([Path("/x/ldm")])) == ["ldm"]
    assert list(method_names([Path("/x/a/samples"), Path("/x/b/reconstructions")])) == ["a", "b"]
    assert list(method_names([Path("/a/out"), Path("/b/out")])) == ["a/out", "b/out"]


def test_methods_whose_samples_are_spread_evenly_are_recognised(write):
    settings = {"even": f'{{"{EVENLY_SPREAD}": true}}', "random": '{"seed": 0}', "plain": None, "other": "?"}
    folders = {method: write(method, NAMES[0]) for method in settings}
    for method, line in settings.items():
        if line is not None:
            (folders[method] / FILE).write_text(line + "\n")
    (case,) = match_folders(folders, write("true", NAMES[0])).cases
    assert case.evenly_spread == {"even"}
