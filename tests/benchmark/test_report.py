"""All files of the report hold the same numbers."""

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pti.benchmark.comparison import Record
from pti.benchmark.report import COLUMNS, Report, cells

PLAIN = Record(
    suite="ldm",
    work="training step",
    side="plain: loop",
    is_plain=True,
    item="pair",
    items=2,
    n=3,
    ms=1000.0,
    ms_quartiles=(900.0, 1100.0),
    per_s=1.0,
    times_faster=1.0,
    times_faster_quartiles=(1.0, 1.0),
    peak_process_mb=1234.0,
    peak_gpu_mb=None,
    gflop=12.5,
    matmul_share=0.5,
    error=None,
    note="",
)
OURS = replace(
    PLAIN,
    side="pti: ldm_concat",
    is_plain=False,
    ms=50.0,
    ms_quartiles=(45.0, 55.0),
    per_s=20.0,
    times_faster=20.0,
    times_faster_quartiles=(18.0, 22.0),
    peak_gpu_mb=56.0,
    note="encoded once",
)
MACHINE = {
    "device": "cpu",
    "system": "Linux x86_64",
    "processor": "Processor",
    "cpus": 2,
    "threads": 2,
    "load": 0.5,
    "python": "3.11",
}


def report(*records: Record) -> Report:
    return Report("python -m pti.benchmark", MACHINE, {"torch": "2"}, {"float32": 5e10}, records)


def test_the_table_holds_what_the_json_holds(tmp_path: Path):
    files = report(PLAIN, OURS).write(tmp_path)
    assert list(files) == ["benchmark.json", "benchmark.md", "benchmark.png"]
    content = json.loads(files["benchmark.json"].read_text())
    assert [row["side"] for row in content["results"]] == ["plain: loop", "pti: ldm_concat"]
    assert content["results"][1]["times_faster"] == 20
    text = files["benchmark.md"].read_text()
    assert "Processor, 2 cores" in text
    assert "50 GFLOP/s in float32" in text
    assert "python -m pti.benchmark" in text
    assert "## ldm: training step (2 pairs, 3 runs)" in text
    row = "| pti: ldm_concat | 50.0 (45.0–55.0) | 20.0 | 20.0 (18.0–22.0) | 1,234 + 56 | 12.5 | 50 % |"
    assert row in text
    assert "- pti: ldm_concat: encoded once." in text


def test_columns_without_values_are_left_out(tmp_path: Path):
    text = report(PLAIN).write(tmp_path)["benchmark.md"].read_text()
    header = next(line for line in text.splitlines() if line.startswith("| side"))
    assert "MAE" not in header
    assert "× plain" not in header


def test_the_plot_is_an_image_and_needs_a_ratio(tmp_path: Path):
    assert Image.open(report(PLAIN, OURS).write(tmp_path)["benchmark.png"]).width > 800
    alone = replace(OURS, times_faster=None, times_faster_quartiles=None)
    assert "benchmark.png" not in report(alone).write(tmp_path / "alone")


def test_a_record_has_a_cell_for_each_column():
    assert len(cells(OURS)) == len(COLUMNS)
    assert cells(PLAIN)[COLUMNS.index("× plain")] == ""


def test_the_terminal_shows_each_comparison(capsys):
    report(PLAIN, OURS).print()
    shown = capsys.readouterr().out
    assert "ldm: training step" in shown
    assert "plain: loop" in shown
