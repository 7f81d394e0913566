"""The page and the tables of an evaluation with known values."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pti.data import tif
from pti.evaluate.calibration_fit import calibration_text, fit_band_factors, fit_corrections
from pti.evaluate.image_baselines import unchanged
from pti.evaluate.outlines import measure_outlines
from pti.evaluate.report import summary_values, write_report
from pti.evaluate.result import AuditedImages, Evaluation
from pti.evaluate.scores import Case, measure_cases
from pti.inference.calibration_file import BAND_FACTORS, Calibration, missing_calibration, read_calibration
from pti.metrics.calibration import interval_coverage
from pti.metrics.changed_region import GHOST, REGION_METRICS
from pti.metrics.distribution import SetDistance
from pti.metrics.error_budget import ErrorComponent
from pti.metrics.memorization import audit
from pti.metrics.outline_band import band_coverage

PIXEL_MM = 0.5
LEAST_HEIGHT = 30


def jaw(height: int, seed: int) -> np.ndarray:
    raw = np.zeros((64, 48), np.float32)
    raw[60 - height : 60, 14:34] = 1000 + np.random.default_rng(seed).uniform(0, 200, (height, 20))
    return raw


def distances(method: str, kid: float) -> SetDistance:
    halves = kid + np.linspace(-0.002, 0.002, 100)
    return SetDistance("lite0", method, kid, halves, 0.001, count=8, patients=8)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Evaluation:
    """Eight patients; the slice of patient p is predicted p and p + 2 pixels too high, in two samples."""
    root, cases = tmp_path_factory.mktemp("images"), []
    for patient in range(8):
        name = f"1000_HA_2021_02_{patient}"
        files = {}
        shown = {"true": 0, "dente": 14, "s00": patient, "s01": patient + 2}
        for kind, extra in shown.items():
            files[kind] = root / f"{name}_{kind}.tif"
            tif.write(files[kind], jaw(LEAST_HEIGHT + extra, patient), PIXEL_MM)
        cases.append(
            Case(
                name, str(patient), files["true"], files["dente"], {"model <1>": [files["s00"], files["s01"]]}
            )
        )
    measurements = measure_cases(cases, 1200, PIXEL_MM, {"condition unchanged": unchanged})
    scores = measurements.methods["model <1>"]
    intervals = interval_coverage(
        "height", scores.predicted["height"], scores.true["height"], scores.patients, {0.9: 2.0}
    )
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 1, (count, 9)) for count in (8, 8, 6)]
    result = audit("pixels", *images, patients=list("aabbcc"))
    copied = AuditedImages(
        result,
        scores.names,
        [case.target for case in cases],
        list("uvwxyz"),
        [case.target for case in cases[:6]],
    )
    return Evaluation(
        measurements,
        "model <1>",
        {"height": intervals},
        [ErrorComponent("all of it", 1.0, 1.2, "predicted − true")],
        None,
        [distances("model <1>", 0.01), distances("condition unchanged", 0.31)],
        [copied],
        ["one thing left out"],
        {"command": "python -m pti.evaluate"},
    )


@pytest.fixture(scope="module")
def written(evaluation, tmp_path_factory) -> dict[str, Path]:
    return write_report(evaluation, tmp_path_factory.mktemp("report"))


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_tables_hold_the_known_errors_worst_first(written):
    rows = [row for row in table(written["per slice"]) if row["method"] == "model <1>"]
    assert [row["patient"] for row in rows] == ["7", "6", "5", "4", "3", "2", "1", "0"]
    errors = [float(row["height_error_mm"]) for row in rows]
    assert errors == pytest.approx([(patient + 1) * PIXEL_MM for patient in range(7, -1, -1)])
    summary = {(row["method"], row["figure"]): row for row in table(written["summary"])}
    own = summary["model <1>", "height_abs_error_mm"]
    assert float(own["value"]) == pytest.approx(4.5 * PIXEL_MM)
    assert float(own["low"]) < 4.5 * PIXEL_MM < float(own["high"])
    assert float(summary["condition unchanged", "height_error_mm"]["value"]) == pytest.approx(7)
    patients = [row for row in table(written["per patient"]) if row["method"] == "model <1>"]
    assert [row["patient"] for row in patients] == ["7", "6", "5", "4", "3", "2", "1", "0"]


def test_dimensions_of_every_prediction(written):
    rows = [row for row in table(written["dimensions"]) if row["method"] == "model <1>"]
    assert len(rows) == 16
    last = next(row for row in rows if row["patient"] == "7" and row["sample"] == "1")
    assert (float(last["height_true_px"]), float(last["height_predicted_px"])) == (30, 39)
    assert float(last["height_ratio"]) == pytest.approx(30 / 39)
    assert (last["height_within_5px"], last["height_within_10px"]) == ("0", "1")
    assert last["width_at_22mm_true_mm"] == ""


def test_differences_say_who_is_better(written):
    rows = [row for row in table(written["differences"]) if row["figure"] == "height_abs_error_mm"]
    verdicts = {row["minus"]: row["verdict"] for row in rows}
    assert verdicts["condition unchanged"] == "better"


def test_every_method_has_a_kid_and_a_difference(evaluation, written):
    summary = {(row["method"], row["figure"]): row for row in table(written["summary"])}
    own = summary["model <1>", "kid_lite0"]
    assert float(own["low"]) < float(own["value"]) == 0.01 < float(own["high"])
    assert float(summary["condition unchanged", "kid_lite0"]["value"]) == 0.31
    row = next(row for row in table(written["differences"]) if row["figure"] == "kid_lite0")
    assert (row["minus"], float(row["value"]), row["verdict"]) == ("condition unchanged", -0.3, "better")
    html = written["report"].read_text()
    assert "As a set, its images are better than condition unchanged by KID." in html
    values = summary_values(evaluation)
    assert values["KID (EfficientNet-Lite0 (ImageNet))"] == 0.01
    assert values["KID (EfficientNet-Lite0 (ImageNet)) of condition unchanged"] == 0.31


def test_the_page_is_self_contained(written):
    html = written["report"].read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", html)
    assert "url(" not in html.replace("url(#", "")
    assert "<script" not in html
    assert "model &lt;1&gt;" in html
    assert "model <1>" not in html
    assert "@media print" in html
    assert "prefers-color-scheme: dark" in html


class Structure(HTMLParser):
    """Unclosed and wrongly closed elements."""

    VOID = ("meta", "link", "img", "br", "image", "path", "use", "line", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_holds_every_part(written):
    html, parser = written["report"].read_text(), Structure()
    parser.feed(html)
    assert not parser.open
    for heading in (
        "All methods",
        "Changed and unchanged tissue",
        "Strongest ghost",
        "Worst, median and best",
        "Agreement",
        "Calibration of the samples",
        "Distributions",
        "Where the height error",
        "Memorization of training images",
        "Provenance",
    ):
        assert heading in html
    assert html.count('class="slice"') == 3 * 8
    assert "5 mm</text>" in html
    assert "predicted <b>" in html
    assert "one thing left out" in html
    for plot in ("Bland–Altman", "Coverage of intervals", "Rank of the true value"):
        assert plot in html


def test_values_of_the_summary(evaluation):
    values = summary_values(evaluation)
    assert values["height_abs_error_mm"] == pytest.approx(2.25)
    assert values["worst slice"] == "+4.00 mm, 1000_HA_2021_02_7"
    assert values["height 90% interval holds"] == pytest.approx(1 / 8)
    assert values["height 90% interval, corrected, holds"] == pytest.approx(5 / 8)


def test_changed_and_unchanged_tissue_have_separate_values(evaluation, written):
    summary = {(row["method"], row["figure"]): row for row in table(written["summary"])}
    changed, unchanged = (
        float(summary["model <1>", f"{name}_ssim"]["value"]) for name in ("changed", "unchanged")
    )
    assert changed < unchanged - 0.05
    assert {name for method, name in summary if method == "model <1>"} >= set(REGION_METRICS)
    assert summary_values(evaluation)[GHOST] == pytest.approx(float(summary["model <1>", GHOST]["value"]))
    assert written["closeup"].read_bytes().startswith(b"\x89PNG")
    html = written["report"].read_text()
    assert html.count('class="closeup"') == 6
    assert "% of the true tissue changed" in html


def test_without_conditions_there_are_no_regions(evaluation, tmp_path):
    cases = [replace(case, condition=None) for case in evaluation.measurements.cases]
    alone = replace(evaluation, measurements=measure_cases(cases, 1200, PIXEL_MM), distances=())
    written = write_report(alone, tmp_path)
    assert "closeup" not in written
    assert "Changed and unchanged tissue" not in written["report"].read_text()


def outlines_of(evaluation):
    outlines = measure_outlines(evaluation.measurements.cases, evaluation.main, PIXEL_MM)
    assert outlines is not None
    return outlines


@pytest.mark.parametrize("evenly_spread", [False, True])
def test_calibration_survives_a_file(evaluation, tmp_path, evenly_spread):
    scores = evaluation.scores
    factors = fit_band_factors(outlines_of(evaluation), scores.patients)
    assert factors[0.5] < factors[0.8] < factors[0.9] == math.inf
    calibration = Calibration(fit_corrections(scores), "the test", factors, evenly_spread)
    path = tmp_path / "calibration.json"
    path.write_text(calibration_text(scores, calibration, "a1b2"))
    read = read_calibration(path, 2, "a1b2")
    assert read == replace(calibration, origin="the test (8 patients)")
    missing = [
        "there is no corrected 90 % interval",
        "there is no 90 % band of the outline: it needs at least 9",
    ]
    for notes in (read.notes(), read.notes_on_images()):
        assert [note[: len(start)] for note, start in zip(notes, missing, strict=True)] == missing
    with pytest.raises(Exception, match="fitted on 2 samples per slice, but there are 5 now"):
        read_calibration(path, samples=5)
    with pytest.raises(Exception, match="fitted with the checkpoint of SHA-256 a1b2"):
        read_calibration(path, 2, "c3d4")
    content = json.loads(path.read_text())
    del content[BAND_FACTORS]
    path.write_text(json.dumps(content))
    earlier = read_calibration(path, samples=2)
    assert earlier == replace(read, band_factors={})
    assert len(earlier.notes()) == 1
    assert "an earlier version wrote it" in earlier.notes_on_images()[1]
    path.write_text("{}")
    with pytest.raises(Exception, match=r"expected a calibration\.json"):
        read_calibration(path, samples=2)


def test_the_report_states_the_coverage_of_the_outlines_band(evaluation, tmp_path):
    """The patients 0 to 7 are predicted p + 1 pixels too high, with a standard deviation of 1 pixel."""
    factors = {0.5: 4.5, 0.8: 6.5, 0.9: math.inf}
    rows = band_coverage(outlines_of(evaluation), evaluation.scores.patients, factors)
    banded = replace(evaluation, bands=rows)
    written = write_report(banded, tmp_path)
    summary = {row["figure"]: row for row in table(written["summary"]) if row["method"] == evaluation.main}
    assert float(summary["outline_band_50_coverage"]["value"]) == pytest.approx(4 / 8, abs=0.06)
    assert float(summary["outline_band_80_coverage"]["value"]) == pytest.approx(6 / 8, abs=0.06)
    assert float(summary["outline_band_50_width_mm"]["value"]) == pytest.approx(9 * PIXEL_MM, rel=0.1)
    assert "outline_band_90_coverage" not in summary
    values = summary_values(banded)
    assert values["outline 80% band holds"] == pytest.approx(
        float(summary["outline_band_80_coverage"]["value"])
    )
    assert values["outline 50% band, width in mm"] == pytest.approx(9 * PIXEL_MM, rel=0.1)
    html = " ".join(written["report"].read_text().split())
    assert re.search(r"The 50 % band contains \d\d % \(95 % interval .* is 4\.\d\d mm wide", html)
    assert "The 90 % band contains" not in html
    assert "∞ for 90 %" in html


def test_without_conditions_there_is_no_new_outline(evaluation):
    cases = [replace(case, condition=None) for case in evaluation.measurements.cases]
    assert measure_outlines(cases, evaluation.main, PIXEL_MM) is None


def test_a_missing_correction_is_explained(evaluation, tmp_path):
    scores = evaluation.scores
    corrections = fit_corrections(scores)
    assert corrections["height"][0.9] == math.inf
    notes = missing_calibration(corrections, "validation split of the test (8 patients)")
    assert len(notes) == 1
    assert "no corrected 90 % interval: it needs at least 9 validation patients" in notes[0]
    assert "(8 patients)" in notes[0]
    rows = interval_coverage(
        "height", scores.predicted["height"], scores.true["height"], scores.patients, corrections["height"]
    )
    written = write_report(replace(evaluation, intervals={"height": rows}, notes=notes), tmp_path)
    html = written["report"].read_text()
    assert "it needs at least 9 validation patients" in html
    assert "A correction of ∞ means too few validation patients" in html
    assert "coverage of corrected 90 % intervals" not in html
    assert re.search(r"predicted <b>\d+\.\d mm, 80 %: ", html)
    assert not re.search(r"predicted <b>\d+\.\d mm, 90 %: ", html)
    assert missing_calibration({"height": {0.9: 1.0}}, "") == []
    assert "interval of area:" in missing_calibration({"height": {0.9: 1.0}, "area": {0.9: math.inf}}, "")[0]
