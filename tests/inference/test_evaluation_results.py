"""Results of `evaluate`, read from its folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.in_process import rows, run_command
from helpers.tiny_checkpoints import save_translator
from pti.common.errors import DataError
from pti.evaluate.__main__ import main
from pti.inference.evaluation_results import EvaluationResults, read_evaluation


@pytest.fixture(scope="module")
def folder(phantom: Path) -> Path:
    save_translator(phantom.parent / "tiny.ckpt", phantom)
    small = ["ckpt=tiny.ckpt", "split=train", "samples=3", "distributions=false", "output_dir=out"]
    run_command(main, phantom.parent, *small)
    return phantom.parent / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> EvaluationResults:
    return read_evaluation(folder)


def test_means_are_those_of_the_table(folder: Path, results: EvaluationResults):
    for row in rows(folder / "summary.csv"):
        mean = results.means[row["method"]][row["figure"]]
        assert (mean.value, mean.count) == (float(row["value"] or "nan"), int(row["count"])) or row[
            "value"
        ] == ""
    assert results.main == "tiny"
    assert {"condition unchanged", "condition − mean loss"} <= set(results.methods)
    height = results.summary["figures"]["height_abs_error_mm"]
    assert results.means["tiny"]["height_abs_error_mm"].value == pytest.approx(height)


def test_lengths_give_the_errors_of_the_slices(results: EvaluationResults):
    heights, slices = results.lengths("height"), results.slices()
    assert heights.samples.shape == (len(heights.names), 3)
    errors = dict(zip(heights.names, np.median(heights.samples, axis=1) - heights.true, strict=True))
    for name, patient, error in zip(
        slices["name"], slices["patient"], slices["height_error_mm"], strict=True
    ):
        assert errors[name] == pytest.approx(error, abs=1e-4)
        assert name.endswith(patient)


def test_lengths_of_a_baseline_have_one_value(results: EvaluationResults):
    assert results.lengths("width_half", "condition unchanged").samples.shape[1] == 1


def test_intervals_and_differences_are_of_the_main_method(results: EvaluationResults):
    assert set(results.intervals["method"]) == set(results.differences["method"]) == {"tiny"}
    assert set(results.differences["verdict"]) <= {"better", "worse", "undecided"}


def test_unknown_names_are_answered_with_the_known_ones(results: EvaluationResults):
    with pytest.raises(DataError, match=r"no method 'best', expected one of tiny, "):
        results.slices("best")
    with pytest.raises(DataError, match=r"no measure 'depth', expected one of height, "):
        results.lengths("depth")


def test_other_folders_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="expected the output folder of a finished"):
        read_evaluation(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"command": "check"}))
    with pytest.raises(DataError, match="check wrote it"):
        read_evaluation(tmp_path)
