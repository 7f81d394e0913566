"""Tables and summary of translations."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pti.inference.pictures import band_text, draw_band, draw_translation, predicted_height
from pti.inference.translator import Translations
from pti.metrics.outline_band import image_band
from pti.translate.tables import finish


def row(name: str, target: float | None, heights: list[float]) -> dict[str, Any]:
    samples = [
        {
            "sample": number,
            "seed": number + 10,
            "file": f"samples/{name}_s{number:02d}.tif",
            "bone_height_mm": h,
        }
        for number, h in enumerate(heights)
    ]
    metrics: dict[str, Any] = {"name": name, "patient": name[0], "pixel_mm": 0.2, "samples": samples}
    metrics |= {"condition_height_mm": 20.0, "median_sample": 0, "bone_height_mm": heights[0]}
    metrics["height_spread_mm"] = float(np.std(heights))
    if target is not None:
        likeness = {"psnr": float("inf"), "ssim": 0.9, "bone_dice": float("nan")}
        for sample in samples:
            sample |= {"height_error_mm": abs(sample["bone_height_mm"] - target), **likeness}
        metrics |= {"target_height_mm": target, "height_error_mm": samples[0]["height_error_mm"], **likeness}
    return metrics


def written(
    folder: Path, rows: list[dict], samples: int, loss: float | None, calibration: str | None = None
) -> tuple[dict, list[dict]]:
    """Write tables and summary; return the summary's metrics and the rows of the images' table."""
    checkpoint = folder / "best.ckpt"
    checkpoint.write_text("weights")
    settings = {
        "models": 1,
        "samples": samples,
        "sampler": None,
        "steps": None,
        "guidance_scale": None,
        "seed": 3,
    }
    finish(folder, Translations(rows, settings, 1000.0, "a test", "abc", calibration), checkpoint, loss)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["seed"], summary["data_fingerprint"]) == (3, "abc")
    return summary["figures"], table(folder / "images.csv")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_median_sample_and_offset_are_compared_in_millimetres(tmp_path, capsys):
    rows = [row("a", 12.0, [12.5, 11.0]), row("b", 14.0, [13.0, 16.0]), row("c", None, [9.0, 10.0])]
    metrics, images = written(tmp_path, rows, 2, 7.0)
    assert metrics["height_error_mm"] == pytest.approx((0.5 + 1.0) / 2)
    assert metrics["offset_height_error_mm"] == pytest.approx((1.0 + 1.0) / 2)
    assert metrics["height_error_mm_of_sample"] == pytest.approx((0.5 + 1.0 + 1.0 + 2.0) / 4)
    assert metrics["worst bone height"] == "1.000 mm off, b"
    assert [image["offset_height_error_mm"] for image in images] == ["1.0", "1.0", ""]
    assert [image["bone_dice"] for image in images] == ["", "", ""]
    printed = capsys.readouterr().out
    assert "height_error_mm" in printed
    assert "offset_height_error_mm" in printed


def test_one_row_a_sample(tmp_path):
    written(tmp_path, [row("a", 12.0, [12.5, 11.0]), row("b", 14.0, [13.0, 16.0])], 2, None)
    samples = table(tmp_path / "manifest.csv")
    assert [sample["file"] for sample in samples[:2]] == ["samples/a_s00.tif", "samples/a_s01.tif"]
    assert [sample["is_median"] for sample in samples] == ["1", "0", "1", "0"]
    assert [sample["seed"] for sample in samples[:2]] == ["10", "11"]


def test_intervals_stand_in_the_tables_the_summary_and_the_terminal(tmp_path, capsys):
    interval = {"interval_level": 0.9, "height_low_mm": 11.0, "height_high_mm": 13.5}
    rows = [row("a", 12.0, [12.5, 11.0]) | interval, row("b", 14.0, [13.0, 16.0]) | interval]
    metrics, images = written(tmp_path, rows, 2, None, "the validation split (12 patients)")
    assert [(image["height_low_mm"], image["height_high_mm"]) for image in images] == [("11.0", "13.5")] * 2
    samples = table(tmp_path / "manifest.csv")
    assert [sample["height_high_mm"] for sample in samples] == ["13.5"] * 4
    assert metrics["calibration"] == "the validation split (12 patients)"
    assert (metrics["interval_level"], metrics["height_interval_width_mm"]) == (0.9, 2.5)
    assert metrics["height_interval_holds"] == 0.5
    assert "a: height 12.5 mm, 90 %: 11.0–13.5\n" in capsys.readouterr().out


def test_uncalibrated_samples_have_no_intervals(tmp_path, capsys):
    metrics, images = written(tmp_path, [row("a", 12.0, [12.5, 11.0])], 2, None)
    assert not any("interval" in key or "calibration" in key for key in (*metrics, *images[0]))
    printed = capsys.readouterr().out
    assert "a: height 12.5 mm, samples 11.0–12.5\n" in printed
    assert "%" not in printed


def test_a_calibration_of_too_few_patients_leaves_the_cells_empty(tmp_path):
    metrics, images = written(tmp_path, [row("a", None, [12.5, 11.0])], 2, None, "2 patients")
    assert (images[0]["interval_level"], images[0]["height_low_mm"]) == ("", "")
    assert "interval_level" not in metrics


def test_without_targets_there_is_nothing_to_compare(tmp_path):
    metrics, images = written(tmp_path, [row("a", None, [12.5])], 1, None)
    assert not any("error" in key or "spread" in key for key in metrics)
    assert "psnr" not in images[0]


def test_only_the_standard_deviation_is_coloured():
    condition = np.zeros((32, 32), np.float32)
    condition[8:28, 8:24] = 1000
    samples = [condition * factor for factor in (0.8, 1.0, 1.2)]
    metrics = {"condition_height_mm": 4.0, "bone_height_mm": 3.0, "samples": [{"bone_height_mm": 3.0}] * 3}
    picture = np.asarray(draw_translation("a", condition, samples, metrics, 1000.0)).astype(int)
    width = picture.shape[1] // 6
    colourful = np.abs(picture[..., 0] - picture[..., 2]) > 60
    assert not colourful[:, : 5 * width].any()
    assert colourful[:, 5 * width :].mean() > 0.1


def test_the_band_is_the_last_panel_with_its_outlines_and_an_explanation():
    raw = np.zeros((64, 64), np.float32)
    raw[20:60, 16:48] = 1000
    samples = [np.where(np.arange(64)[:, None] < top, 0, raw) for top in (28, 32, 36)]
    metrics = {"condition_height_mm": 4.0, "bone_height_mm": 3.0, "samples": [{"bone_height_mm": 3.0}] * 3}
    band = image_band(raw, samples, 0.15, {0.9: 1.5})
    assert band is not None
    pixels = np.asarray(draw_translation("a", raw, samples, metrics, 1000.0, None, band)).astype(int)
    without = np.asarray(draw_translation("a", raw, samples, metrics, 1000.0))
    width = pixels.shape[1] // 7
    assert pixels.shape[1] - without.shape[1] == pytest.approx(width, abs=8)
    blue = pixels[..., 2] - pixels[..., 0] > 60
    inside = np.argwhere(blue[:, -width:])
    assert inside[:, 0].min() < pixels.shape[0] / 2
    assert blue[:, :width].sum() == 0
    first, second = band_text(band, has_target=False).splitlines()
    assert first.startswith("blue band: contains on average 90 % of the bone's new outline")
    assert second == f"band {band.width_mm:.1f} mm wide; white: predicted outline"
    assert band_text(band, has_target=True).endswith("; green: target")
    open_band = image_band(raw, [*samples, raw * 0], 0.15, {0.9: 1.5})
    assert open_band is not None
    assert band_text(open_band, has_target=True).endswith("\nsamples without bone leave the outline open")


def test_the_targets_outline_is_green_over_the_band():
    raw = np.zeros((64, 64), np.float32)
    raw[20:60, 16:48] = 1000
    target = np.where(np.arange(64)[:, None] < 28, 0, raw)
    band = image_band(raw, [raw], 0.15, {0.9: 8.0})
    assert band is not None
    shown = draw_band(np.zeros((64, 64, 3), np.uint8), band, target)[:, 32].astype(int)
    green, white = shown[:, 1] - shown[:, 2] > 50, shown.min(axis=1) > 100
    assert set(np.flatnonzero(green)) == {27, 28}
    assert {19, 20} <= set(np.flatnonzero(white))


def test_bands_are_in_the_table_and_the_summary(tmp_path):
    rows = [row("a", None, [12.5, 11.0]) | {"band_level": 0.9, "band_factor": 2.0, "band_width_mm": 1.5}]
    rows.append(row("b", None, [12.5, 11.0]) | {"band_level": 0.9, "band_factor": 2.0})
    metrics, images = written(tmp_path, rows, 2, None, "the validation split (12 patients)")
    assert [(image["band_level"], image["band_width_mm"]) for image in images] == [
        ("0.9", "1.5"),
        ("0.9", ""),
    ]
    assert (metrics["band_level"], metrics["band_width_mm"]) == (0.9, 1.5)


def test_the_predicted_height_of_an_image_as_text():
    metrics = {"bone_height_mm": 21.4, "samples": [{"bone_height_mm": 21.4}, {"bone_height_mm": 22.0}]}
    assert predicted_height(metrics) == "21.4 mm, samples 21.4–22.0"
    interval = {"interval_level": 0.8, "height_low_mm": 20.0, "height_high_mm": 23.04}
    assert predicted_height(metrics | interval) == "21.4 mm, 80 %: 20.0–23.0"
