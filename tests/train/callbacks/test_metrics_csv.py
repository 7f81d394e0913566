"""The table of metrics."""

from pti.train.callbacks.metrics_csv import read_metrics, write_metrics


def test_metrics_survive_a_round_trip_exactly(tmp_path):
    rows = [
        {"epoch": 0.0, "step": 3.0, "train/a": 0.1 + 0.2},
        {"epoch": 1.0, "step": 6.0, "train/a": 1e-30, "val/b": 2.0},
    ]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows


def test_whole_numbers_are_written_without_a_decimal_point(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [{"epoch": 0.0, "step": 3.0, "val/a": 0.5}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,val/a\n0,3,0.5\n"
