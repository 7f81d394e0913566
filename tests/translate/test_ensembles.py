"""Several checkpoints, and mirrored images: which sample comes from what."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pti.evaluate.__main__
from helpers.in_process import rows, run_command
from helpers.tiny_checkpoints import save_sizes, save_translator
from pti.data import tif
from pti.translate.__main__ import main

run = partial(run_command, main)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, phantom) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name in "ABC":
        (folder / name / "checkpoints").mkdir(parents=True)
    return [
        save_translator(folder / "ABC"[n] / "checkpoints" / "best.ckpt", phantom, seed=n) for n in range(3)
    ]


def samples(output: Path) -> dict[str, np.ndarray]:
    return {path.name: tif.read(path).pixels for path in sorted((output / "samples").iterdir())}


def test_models_of_an_ensemble_draw_samples_in_turn(tmp_path, checkpoints, phantom):
    settings = (f"input_dir={phantom / 'dente'}", "samples=4", "num_samples=2")
    listed = f"ckpt=[{checkpoints[0]},{checkpoints[1]}]"
    run(tmp_path, listed, *settings, "output_dir=both")
    alone = []
    for number in range(2):
        run(tmp_path, f"ckpt={checkpoints[number]}", *settings, f"output_dir={number}")
        alone.append(samples(tmp_path / str(number)))
    both = samples(tmp_path / "both")
    assert len(both) == 8
    for index, (name, image) in enumerate(both.items()):
        own, other = alone[index % 2][name], alone[1 - index % 2][name]
        np.testing.assert_allclose(image, own, rtol=1e-3, atol=1)
        assert np.abs(image - other).max() > 50
    figures = json.loads((tmp_path / "both" / "summary.json").read_text())["figures"]
    assert figures["models"] == 2
    heights = [float(row["bone_height_mm"]) for row in rows(tmp_path / "both" / "manifest.csv")]
    of_models = np.array(heights).reshape(2, 2, 2).mean(1)  # image, model
    assert figures["height_spread_of_models_mm"] == pytest.approx(of_models.std(1, ddof=1).mean(), abs=1e-6)


def test_every_second_sample_is_of_the_mirrored_image(tmp_path, checkpoints, phantom):
    for name in ("own", "mirrored"):
        (tmp_path / name).mkdir()
    source = sorted((phantom / "dente").iterdir())[0]
    image = tif.read(source)
    tif.write(tmp_path / "own" / source.name, image.pixels, image.pixel_mm)
    tif.write(
        tmp_path / "mirrored" / source.name, np.ascontiguousarray(image.pixels[:, ::-1]), image.pixel_mm
    )
    settings = (f"ckpt={checkpoints[0]}", "samples=2")
    run(tmp_path, *settings, "input_dir=own", "mirror=true", "output_dir=out")
    run(tmp_path, *settings, "input_dir=own", "output_dir=plain")
    run(tmp_path, *settings, "input_dir=mirrored", "output_dir=other")
    (first, second), (plain, unlike), (_, other) = (
        samples(tmp_path / name).values() for name in ("out", "plain", "other")
    )
    np.testing.assert_allclose(first, plain, rtol=1e-3, atol=1)
    np.testing.assert_allclose(second, other[:, ::-1], rtol=1e-3, atol=1)
    assert np.abs(second - unlike).max() > 50


@pytest.mark.usefixtures("without_plots")
def test_evaluation_compares_an_ensemble_with_its_models(tmp_path, checkpoints):
    listed = f"ckpt=[{checkpoints[0]},{checkpoints[1]}]"
    settings = ("ensemble=true", "samples=2", "split=train", "num_samples=3", "distributions=false")
    done = run_command(
        pti.evaluate.__main__.main,
        tmp_path,
        listed,
        *settings,
        "mirror=true",
        "steps=3",
        "sampler=ddim",
        "output_dir=out",
    )
    following = next(line for line in done.stdout.splitlines() if line.startswith("Next: "))
    assert "ckpt=[" in following
    assert " sampler=ddim samples=2 steps=3 mirror=true calibration=out/calibration.json" in following
    methods = list(dict.fromkeys(row["method"] for row in rows(tmp_path / "out" / "summary.csv")))
    assert methods[0] == "ensemble of 2"
    assert {"A", "B"} <= set(methods)
    calibration = json.loads((tmp_path / "out" / "calibration.json").read_text())
    settings = ("samples=2", "steps=3", "mirror=true", "split=train", "calibration=out/calibration.json")
    run(tmp_path, listed, *settings, "output_dir=next")
    done = run(tmp_path, f"ckpt={checkpoints[0]}", *settings, "output_dir=alone", code=1)
    assert "ensemble of 2" in done.stderr
    assert calibration["samples"] == 2


@pytest.mark.parametrize("key", ["ckpt", "prediction_dir"])
def test_evaluation_refuses_an_ensemble_of_one(tmp_path, checkpoints, phantom, key):
    found = f"ckpt={checkpoints[0]}" if key == "ckpt" else f"prediction_dir={phantom / 'edente'}"
    done = run_command(pti.evaluate.__main__.main, tmp_path, found, "ensemble=true", code=2)
    assert "ensemble=true: expected several checkpoints, ckpt=[A,B], found " + key in done.stderr


@pytest.mark.parametrize(
    ("other", "settings", "named"),
    [
        ("sizes", (), "predicts sizes"),
        ("larger", (), "data.image_size"),
        ("itself", (), "listed twice"),
        ("another split", (), "different splits"),
        ("fine", ("samples=1",), "at least 2"),
    ],
)
def test_mistakes(tmp_path, checkpoints, phantom, other, settings, named):
    path = tmp_path / "other.ckpt"
    if other == "sizes":
        save_sizes(path, phantom)
    elif other in ("larger", "another split", "fine"):
        more = {"larger": {"image_size": 64}, "another split": {"split_seed": 4}, "fine": {}}[other]
        save_translator(path, phantom, seed=5, **more)
    else:
        path = checkpoints[0]
    done = run(tmp_path, f"ckpt=[{checkpoints[0]},{path}]", *settings, "output_dir=out", code=2)
    assert named in done.stderr
