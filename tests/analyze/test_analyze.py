"""``python -m pti.analyze``: its files, the cache, and mistakes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.in_process import Done, run_command
from helpers.latent_study_setup import LATENT_ATTRIBUTES, StudyInputs, make_study_inputs
from helpers.tiny_checkpoints import save_translator
from pti.analyze.__main__ import main
from pti.data import resize, tif
from pti.data.input_images import find_images
from pti.latent_study import options
from pti.latent_study.latents import load_latents
from pti.runs.checkpoint import open_checkpoint

QUICK = ("method=pca", "atlas_methods=[tsne]", "dpi=72")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> StudyInputs:
    return make_study_inputs(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def result(tmp_path_factory, study) -> tuple[Path, Done]:
    output = tmp_path_factory.mktemp("result") / "out"
    arguments = (
        f"ckpt={study.checkpoint}",
        f"output_dir={output}",
        "cache_dir=cache",
        "tensorboard=true",
        *QUICK,
    )
    return output, run_command(main, output.parent, *arguments)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_latents_are_the_posteriors_means(result, study):
    latents = load_latents(result[0] / "latents.npz")
    assert latents.name.tolist() == [image.name for image in find_images(study.data)]
    assert set(latents.split) == {"train", "val", "test"}
    module = open_checkpoint(study.checkpoint).load_module()
    for index in (0, 13):
        raw = resize.pad_and_resize(tif.read(study.data / f"{latents.name[index]}.tif").pixels, 32)
        with torch.no_grad():
            mean = module.encode(torch.from_numpy(raw)[None, None]).mean  # pyright: ignore
        assert np.allclose(latents.mean[index], mean[0].numpy(), atol=1e-5)


def test_pictures_tables_and_summary(result):
    output, done = result
    picture = np.asarray(Image.open(output / "projection.png").convert("RGB"), float)
    assert picture.shape == (6 * 72, 7 * 72, 3)
    colourful = np.ptp(picture, axis=2) > 60
    assert 50 < colourful.sum() < 0.2 * colourful.size
    measures = {(row["measure"], row["of"]): float(row["value"]) for row in rows(output / "distances.csv")}
    assert measures["pair distance", "dente – edente"] > 0
    patients = rows(output / "patients_by_distance.csv")
    assert len(patients) == 6
    assert [row["pairs"] for row in patients] == ["2"] * 6
    assert {row["channel"] for row in rows(output / "channels.csv")} == {"0", "1"}
    assert len(rows(output / "attributes.csv")) == 12
    summary = json.loads((output / "summary.json").read_text())
    assert summary["figures"]["images"] == 24
    assert summary["figures"]["pair distance, dente – edente"] == pytest.approx(
        measures["pair distance", "dente – edente"], rel=1e-5
    )
    assert "24 images: n_neighbors=7 instead of 40, perplexity=7 instead of 30" in done.stdout
    assert "Next: python -m pti.explore" in done.stdout


def test_the_page_offers_the_projections_and_names_the_run(result):
    page = (result[0] / "projection.html").read_text()
    assert "Latent space of vae_test" in page
    assert '<option value="pca">PCA</option><option value="tsne">t-SNE</option>' in page
    assert '<option value="umap">' not in page


def test_a_model_with_attributes_gets_their_tables_and_walks(tmp_path, result):
    study = make_study_inputs(tmp_path / "study", attributes=LATENT_ATTRIBUTES)
    run_command(main, tmp_path, f"ckpt={study.checkpoint}", "output_dir=out", "cache_dir=null", *QUICK)
    fits = rows(tmp_path / "out" / "latent_attributes.csv")
    assert [(row["group"], row["measure"], row["images"]) for row in fits] == [
        (group, measure, "6") for group in ("dente", "edente") for measure in ("height", "width_half")
    ]
    walks = rows(tmp_path / "out" / "attribute_walks.csv")
    assert {(row["along"], row["measured"]) for row in walks} >= {("height", "height"), ("height", "area")}
    assert Image.open(tmp_path / "out" / "walks.png").width > 500
    assert "Latent attributes" in (tmp_path / "out" / "projection.html").read_text()
    output, _ = result
    assert "Latent attributes" not in (output / "projection.html").read_text()
    assert not [name for name in ("latent_attributes.csv", "walks.png") if (output / name).exists()]


def test_tensorboards_projector_gets_latents_names_and_thumbnails(result):
    folder = result[0] / "tensorboard"
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 1
    metadata = next(folder.rglob("metadata.tsv")).read_text().splitlines()
    assert metadata[0].split("\t")[:4] == ["name", "group", "patient", "split"]
    assert len(metadata) == 25
    sprite = Image.open(next(folder.rglob("sprite.png")))
    assert np.asarray(sprite.convert("L")).max() > 200


def test_a_second_start_takes_the_latents_from_the_cache(result, study, monkeypatch):
    output, _ = result
    monkeypatch.setattr("pti.latent_study.latents.Encode.__call__", None)
    arguments = (f"ckpt={study.checkpoint}", f"output_dir={output}", "cache_dir=cache", *QUICK)
    run_command(main, output.parent, *arguments, "color_by=patient", "join_pairs=true", "subtitle=Mine")
    assert "Mine" in (output / "projection.html").read_text()


def test_a_damaged_cache_is_replaced(tmp_path, study):
    arguments = (f"ckpt={study.checkpoint}", "output_dir=out", "cache_dir=cache", "split=val", *QUICK)
    run_command(main, tmp_path, *arguments)
    (cached,) = (tmp_path / "cache").glob("latents_*.npz")
    whole = cached.read_bytes()
    cached.write_bytes(whole[: len(whole) // 2])
    run_command(main, tmp_path, *arguments)
    assert len(cached.read_bytes()) == len(whole)


def test_a_folder_with_a_limit_keeps_whole_pairs(tmp_path, study):
    where = (f"ckpt={study.checkpoint}", f"input_dir={study.data}", "output_dir=out", "cache_dir=null")
    run_command(main, tmp_path, *where, "max_images=9", "color_by=density", *QUICK)
    latents = load_latents(tmp_path / "out" / "latents.npz")
    assert len(latents) == 8
    assert len(latents.pairs()) == 4
    assert len(set(latents.patient)) == 4
    assert not (tmp_path / "cache").exists()


def test_one_folder_without_pairs(tmp_path, study):
    where = (f"ckpt={study.checkpoint}", f"input_dir={study.data}/edente", "output_dir=out", "cache_dir=null")
    run_command(main, tmp_path, *where, *QUICK)
    assert set(load_latents(tmp_path / "out" / "latents.npz").group) == {"images"}
    assert not (tmp_path / "out" / "patients_by_distance.csv").exists()


def test_a_model_of_the_second_stage_is_studied_by_its_autoencoder(tmp_path, study):
    save_translator(tmp_path / "ldm.ckpt", study.data)
    run_command(main, tmp_path, "ckpt=ldm.ckpt", "output_dir=out", "cache_dir=null", *QUICK)
    assert load_latents(tmp_path / "out" / "latents.npz").mean.shape == (24, 2, 16, 16)


def test_foreign_files_are_not_overwritten(tmp_path, study):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "projection.png").write_text("mine")
    done = run_command(main, tmp_path, f"ckpt={study.checkpoint}", "output_dir=out", *QUICK, code=2)
    assert "projection.png" in done.stderr
    assert (tmp_path / "out" / "projection.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "ckpt is not set"),
        (["ckpt=none.ckpt"], "there is no such checkpoint"),
        (["ckpt={checkpoint}", "method=isomap"], "method=isomap: expected one of pca, umap, tsne"),
        (["ckpt={checkpoint}", "color_by=age"], "color_by=age"),
        (["ckpt={checkpoint}", "atlas_methods=[pca,lda]"], "atlas_methods=lda"),
        (["ckpt={checkpoint}", "split=middle"], "expected one of train, val, test, all"),
        (["ckpt={checkpoint}", "n_neighbors=1"], "n_neighbors=1: expected 2 or more"),
        (["ckpt={checkpoint}", "min_dist=2.0"], "min_dist=2.0: expected 0 to 1"),
        (["ckpt={checkpoint}", "dpi=9"], "dpi=9: expected 72 to 1200"),
        (["ckpt={checkpoint}", "input_dir=.", "data.root=."], "one or the other"),
        (["ckpt={checkpoint}", "neighbors=5"], "Did you mean n_neighbors?"),
    ],
)
def test_mistakes(tmp_path, study, arguments, named):
    arguments = [text.format(checkpoint=study.checkpoint) for text in arguments]
    assert named in run_command(main, tmp_path, *arguments, code=2).stderr


def test_too_few_images_are_reported(tmp_path, study):
    few = (f"ckpt={study.checkpoint}", "max_images=4", "output_dir=out", "cache_dir=null")
    assert "found 4 images" in run_command(main, tmp_path, *few, *QUICK, code=1).stderr


@pytest.mark.parametrize("verb", ["analyze", "explore"])
def test_the_keys_are_listed_without_anything_heavy(verb):
    heavy = ("torch", "numpy", "sklearn", "umap", "numba", "plotly", "dash", "matplotlib")
    code = (
        f"import sys; sys.argv = ['pti {verb}', '--help']\n"
        f"from pti.{verb}.__main__ import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print('heavy:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "n_neighbors" in done.stdout


def test_every_colour_and_method_is_named_in_the_configuration():
    text = (Path(__file__).parents[2] / "conf" / "latent_study.yaml").read_text()
    for name in (*options.COLORS, *options.METHODS):
        assert name in text


def test_a_cache_that_cannot_be_written_to_only_costs_time(tmp_path, study):
    (tmp_path / "outputs").write_text("no folder")
    done = run_command(main, tmp_path, f"ckpt={study.checkpoint}", "split=val", "output_dir=out", *QUICK)
    assert "the latents aren't kept in cache_dir=outputs/cache" in done.stderr
    assert (tmp_path / "out" / "latents.npz").is_file()
