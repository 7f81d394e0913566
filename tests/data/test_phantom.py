import csv
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pti.common.errors import UsageError
from pti.data import tif
from pti.data.phantom import make_phantom, shapes
from pti.data.phantom.anatomy import draw_patient
from pti.data.phantom.pairs import PhantomPair, draw_pairs
from pti.data.phantom.section import draw_section
from pti.data.phantom.style import Style
from pti.data.phantom.texture import draw_textures
from pti.metrics.morphometry import FRACTIONS, HEIGHTS_MM, bone_mask, measure

SEED = 7
NOISE_HU = Style().noise_hu


@pytest.fixture(scope="module")
def pairs() -> list[PhantomPair]:
    """Draw two slices of each of six patients."""
    return [pair for patient in range(6) for pair in draw_pairs(SEED, patient, 2, 256, 0.15)]


def draw_one(patient: int, image_size: int = 256, pixel_mm: float = 0.15) -> PhantomPair:
    return next(draw_pairs(SEED, patient, 1, image_size, pixel_mm))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("image_size", [64, 72, 128, 256, 512])
def test_images_are_raw_tissue_on_a_background_of_exactly_0(image_size):
    pair = draw_one(0, image_size)
    for image in (pair.dente, pair.edente):
        assert image.shape == (image_size, image_size)
        assert image.dtype == np.float32
        assert image.min() == 0
        assert max(edge.max() for edge in (image[0], image[-1], image[:, 0], image[:, -1])) == 0
        assert np.count_nonzero(bone_mask(image)) > 0.9 * np.count_nonzero(image)
        assert np.percentile(image[image > 0], 5) > 500


@pytest.mark.parametrize("image_size", [128, 256, 512])
def test_bone_measures_what_truth_says(image_size):
    for patient in range(8):
        pair = draw_one(patient, image_size)
        edge = pair.truth["pixel_mm"]
        measured = measure(bone_mask(pair.edente), edge).as_dict()
        assert measured["height_px"] == pytest.approx(pair.truth["height_px"], abs=1)
        assert measure(bone_mask(pair.dente), edge).height == pytest.approx(
            pair.truth["dente_height_px"], abs=1.5
        )
        section = draw_patient(SEED, patient, 1)[0]
        heights = {f"width_{name}": share * section.healed_height for name, share in FRACTIONS.items()}
        heights |= {f"width_at_{mm}mm": mm for mm in HEIGHTS_MM if mm < section.healed_height - edge}
        for name, height in heights.items():
            # An error of half a pixel in the base changes the width where the outline is oblique.
            near = [shapes.jaw_width(section, height + offset * edge) / edge for offset in (-0.5, 0, 0.5)]
            assert min(near) - 1.1 <= measured[f"{name}_px"] <= max(near) + 1.1, (patient, name)
            assert pair.truth[f"{name}_px"] == pytest.approx(near[1])


def test_widths_above_the_crest_have_no_truth():
    truths = [draw_one(patient).truth for patient in range(12)]
    assert any(truth["height_mm"] < 22 for truth in truths)
    for truth in truths:
        assert math.isnan(truth["width_at_22mm_mm"]) == (truth["height_mm"] <= 22)


def test_loss_of_height_follows_the_documented_law():
    sections = [draw_patient(SEED, patient, 1)[0] for patient in range(1500)]
    loss = np.array([section["crest_height"] - section.healed_height for section in sections])
    expected = np.array([section.expected_loss for section in sections])
    assert loss.min() > 0.3
    assert loss.mean() == pytest.approx(3, abs=0.15)
    assert expected.std() == pytest.approx(1, abs=0.15)
    assert (loss - expected).std() == pytest.approx(0.46, abs=0.05)
    score = (loss - expected) / (0.15 * expected)
    assert score.mean() == pytest.approx(0, abs=0.1)
    assert score.std() == pytest.approx(1, abs=0.07)


def test_truth_gives_the_distribution_of_the_height(pairs):
    for truth in (pair.truth for pair in pairs):
        expected_loss = truth["dente_crest_height_mm"] - truth["height_mean_mm"]
        assert truth["height_std_mm"] == pytest.approx(0.15 * expected_loss)
        assert truth["height_mm"] == pytest.approx(
            truth["height_mean_mm"] - truth["chance"] * truth["height_std_mm"]
        )
        assert truth["loss_mm"] == pytest.approx(truth["dente_crest_height_mm"] - truth["height_mm"])


def test_chance_is_visible_in_the_edente_image_only():
    section = draw_patient(SEED, 0, 1)[0]
    (texture,) = draw_textures(np.random.default_rng(0), 1, 128, 0.15, 0.8, 0.1)
    other = dataclasses.replace(section, parameters=section.parameters | {"chance": section["chance"] + 1})
    dente, edente = draw_section(section, texture, 128, 0.3)
    dente_other, edente_other = draw_section(other, texture, 128, 0.3)
    np.testing.assert_array_equal(dente, dente_other)
    assert measure(bone_mask(edente), 0.3).height > measure(bone_mask(edente_other), 0.3).height


def test_healing_leaves_the_basal_bone_as_it_was(pairs):
    for pair in pairs:
        section = draw_patient(SEED, int(pair.truth["patient"]) - 1, 2)[int(pair.name[:4]) - 1000]
        base = measure(bone_mask(pair.edente), 0.15).base_row
        apex = shapes.neck(section)[1] - 1.1 * section["root_length"]
        below = slice(int(base - apex / 0.15) + 8, int(base) + 2)
        change = np.abs(pair.dente[below] - pair.edente[below])
        assert change.max() < 10 * NOISE_HU
        assert 0.3 * NOISE_HU < change[pair.dente[below] > 0].mean() < 2 * NOISE_HU


def test_crest_is_lower_and_narrower_and_loses_more_on_the_buccal_side(pairs):
    for pair in pairs:
        crest = measure(bone_mask(pair.edente), 0.15).crest_row
        row = int(crest) + 15
        before, after = (np.flatnonzero(image[row]) for image in (pair.dente, pair.edente))
        assert after[0] - before[0] > before[-1] - after[-1] >= -1
        assert pair.truth["height_mm"] < pair.truth["dente_crest_height_mm"]


def test_neighbouring_slices_are_similar_and_patients_are_not(pairs):
    def similarity(a, b):
        return np.corrcoef(a.edente.ravel(), b.edente.ravel())[0, 1]

    neighbours = [similarity(pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2)]
    strangers = [similarity(pairs[i], pairs[j]) for i in range(0, len(pairs), 2) for j in range(0, i, 2)]
    assert max(neighbours) < 1
    assert min(neighbours) > max(strangers)
    for i in range(0, len(pairs), 2):
        assert pairs[i].truth["chance"] == pairs[i + 1].truth["chance"]
        assert abs(pairs[i].truth["height_mm"] - pairs[i + 1].truth["height_mm"]) < 0.6


def test_anatomy_is_the_same_at_any_image_size():
    large, middle, small = (draw_one(3, size) for size in (512, 256, 128))
    for pair in (large, small):
        for key in ("height_mm", "width_half_mm", "dente_height_mm", "canal_radius"):
            assert pair.truth[key] == pytest.approx(middle.truth[key])
    for fine, coarse in ((large, middle), (middle, small)):
        reduced = fine.dente.reshape(coarse.dente.shape[0], 2, coarse.dente.shape[0], 2).mean((1, 3))
        assert np.corrcoef(reduced.ravel(), coarse.dente.ravel())[0, 1] > 0.998


def test_a_patient_does_not_depend_on_the_number_of_slices():
    one, three = list(draw_pairs(SEED, 2, 1, 64, 0.15)), list(draw_pairs(SEED, 2, 3, 64, 0.15))
    np.testing.assert_equal(one[0].truth, three[0].truth)
    np.testing.assert_array_equal(one[0].dente, three[0].dente)
    np.testing.assert_array_equal(one[0].edente, three[0].edente)


def test_equal_settings_give_equal_bytes_whatever_the_number_of_patients(tmp_path):
    make_phantom(tmp_path / "a", patients=2, slices=2, image_size=64, seed=SEED)
    make_phantom(tmp_path / "b", patients=3, slices=2, image_size=64, seed=SEED)
    make_phantom(tmp_path / "c", patients=2, slices=2, image_size=64, seed=SEED)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 2 * 2 * 2 + 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()
        if file.suffix == ".tif":
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = next(draw_pairs(SEED + 1, 0, 1, 64, 0.15))
    assert not np.array_equal(other.dente, draw_one(0, 64).dente)


def test_files_are_named_and_listed(tmp_path):
    make_phantom(tmp_path / "data", patients=2, slices=3, image_size=64)
    rows = rows_of(tmp_path / "data" / "truth.csv")
    names = {row["name"] for row in rows}
    assert len(names) == 6
    for folder in ("dente", "edente"):
        assert {path.stem for path in (tmp_path / "data" / folder).iterdir()} == names
    for row in rows:
        assert row["name"].split("_")[-1] == row["patient"]
        image = tif.read(tmp_path / "data" / "edente" / f"{row['name']}.tif")
        assert image.pixel_mm == pytest.approx(0.6, rel=1e-5)
        assert image.stored_dtype == "float32"


def test_existing_files_are_kept(tmp_path):
    settings: dict[str, Any] = {"patients": 1, "slices": 2, "image_size": 64}
    folder = tmp_path / "data"
    assert make_phantom(folder, **settings) is True
    assert make_phantom(folder, **settings) is False
    with pytest.raises(UsageError, match=r"another phantom \(slices=2\)"):
        make_phantom(folder, patients=1, slices=3, image_size=64)
    next((folder / "dente").iterdir()).unlink()
    with pytest.raises(UsageError, match="added, changed or deleted"):
        make_phantom(folder, **settings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        make_phantom(tmp_path / "full", **settings)
    with pytest.raises(UsageError, match="is a file"):
        make_phantom(tmp_path / "full" / "precious.txt", **settings)
    assert (tmp_path / "full" / "precious.txt").read_text() == "mine"


def test_a_folder_with_hidden_entries_is_free(tmp_path):
    (tmp_path / "data" / ".hydra").mkdir(parents=True)
    (tmp_path / "data" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    assert make_phantom(tmp_path / "data", patients=1, slices=1, image_size=64)
    assert (tmp_path / "data" / ".hydra" / "config.yaml").read_text() == "seed: 0\n"
    assert json.loads((tmp_path / "data" / "phantom.json").read_text())["settings"]["patients"] == 1


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    written = []
    write = tif.write

    def stop(path, *args):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *args)

    monkeypatch.setattr(tif, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "data", patients=2, slices=2, image_size=64)
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_makers_keeps_what_the_faster_made(tmp_path, monkeypatch):
    settings: dict[str, Any] = {"patients": 1, "slices": 1, "image_size": 64}
    write = tif.write

    def overtaken(*args):
        monkeypatch.setattr(tif, "write", write)
        assert make_phantom(tmp_path / "data", **settings) is True
        write(*args)

    monkeypatch.setattr(tif, "write", overtaken)
    assert make_phantom(tmp_path / "data", **settings) is False
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_settings_and_folder_are_checked_without_numpy():
    program = "import sys, pti.data.phantom.folder; assert not {'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("patients", 0),
        ("slices", 0),
        ("image_size", 32),
        ("image_size", 100),
        ("image_size", 1024),
        ("pixel_mm", 0.1),
        ("pixel_mm", math.nan),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_named(tmp_path, setting: str, value: Any):
    with pytest.raises(UsageError, match=setting):
        make_phantom(tmp_path / "data", **{setting: value})
    assert list(tmp_path.iterdir()) == []


def test_a_coarser_scanner_shows_a_smaller_jaw():
    fine, coarse = draw_one(1), draw_one(1, pixel_mm=0.2)
    assert coarse.truth["height_mm"] == pytest.approx(fine.truth["height_mm"])
    assert measure(bone_mask(coarse.edente), 0.2).height == pytest.approx(
        0.75 * measure(bone_mask(fine.edente), 0.15).height, abs=1.5
    )


def test_broken_files_are_listed_with_the_fault_that_reading_them_gives(tmp_path):
    root = tmp_path / "data"
    make_phantom(root, patients=2, slices=1, image_size=64, broken=True)
    rows = rows_of(root / "broken.csv")
    file_rows = [row for row in rows if row["fault"] not in _PAIR_FAULTS]
    assert len(file_rows) == 15
    for row in file_rows:
        with pytest.raises(tif.TifError) as error:
            tif.read(root / row["file"])
        assert error.value.fault == row["fault"], row
    broken = {row["file"] for row in rows}
    for path in (*(root / "dente").iterdir(), *(root / "edente").iterdir()):
        name = path.relative_to(root).as_posix()
        if name not in {row["file"] for row in file_rows}:
            tif.read(path)
        partner = root / ("edente" if path.parent.name == "dente" else "dente") / path.name
        assert partner.exists() or partner.is_symlink() or name in broken
    assert {row["fault"] for row in rows} >= set(_PAIR_FAULTS)


_PAIR_FAULTS = ("missing_partner", "exchanged", "swapped", "shifted", "duplicate", "no_patient")


def test_broken_files_leave_the_sound_ones_as_they_are(tmp_path):
    for name, broken in (("sound", False), ("broken", True)):
        make_phantom(tmp_path / name, patients=2, slices=1, image_size=64, broken=broken)
    assert rows_of(tmp_path / "sound" / "truth.csv") == rows_of(tmp_path / "broken" / "truth.csv")
    for path in (tmp_path / "sound").rglob("*.tif"):
        twin = tmp_path / "broken" / path.relative_to(tmp_path / "sound")
        assert path.read_bytes() == twin.read_bytes()
