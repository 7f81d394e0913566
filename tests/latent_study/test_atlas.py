"""The atlas page: its file, and its behaviour in a browser."""

import re
from pathlib import Path

import numpy as np
import pytest

from helpers.browsing import POINT, click_point, lasso, open_page, overlaps, pixels_of
from helpers.image_sets import disc
from helpers.latent_study_setup import make_latents
from pti.data import tif
from pti.data.input_images import InputImage
from pti.drawing.panels import grey, tissue_window
from pti.latent_study import atlas
from pti.latent_study.latents import Latents
from pti.latent_study.projection import Projection, principal_components
from pti.latent_study.tables import StudyTables, tabulate


def projections(latents: Latents) -> dict[str, Projection]:
    """A grid: image n at column n % 6, row n // 6; and the same with the axes exchanged."""
    number = np.arange(len(latents))
    points = np.stack([number % 6, number // 6], 1).astype(np.float32)
    return {
        "tsne": Projection("tsne", points, ("across", "up"), "perplexity=5"),
        "pca": Projection("pca", points[:, ::-1], ("up", "across"), ""),
    }


def write(path: Path, latents: Latents, tables: StudyTables, images: list[InputImage]) -> Path:
    atlas.write_atlas(
        path,
        latents,
        images,
        projections(latents),
        tables,
        color_by="group",
        title="Latents </script> & more",
        subtitle="made up",
    )
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Latents, list[InputImage], Path]:
    folder = tmp_path_factory.mktemp("images")
    latents = make_latents(patients=6, slices=2)
    images = []
    for number, name in enumerate(latents.name):
        path = folder / f"{name.replace('/', '_')}.tif"
        rows, columns = np.mgrid[:64, :64]
        wedge = np.arctan2(rows - 31.5, columns - 31.5) > np.pi * (1 - 2 * (number + 1) / 26)
        tif.write(path, np.where(wedge, disc(number, 64) + 500, 0).astype(np.float32), 0.15)
        images.append(InputImage(str(name), path, str(latents.patient[number])))
    latents.attributes["density"][0] = np.nan
    tables = tabulate(latents, principal_components(latents.flat))
    return latents, images, write(folder / "projection.html", latents, tables, images)


def expected_pixels(image: InputImage) -> np.ndarray:
    raw = tif.read(image.path).pixels
    return grey(raw, tissue_window(raw))[..., 0].astype(float)


def test_two_thousand_images_stay_under_fifteen_megabytes(tmp_path, monkeypatch, study):
    latents = make_latents(patients=200, slices=5)
    assert len(latents) == 2000
    random = np.random.default_rng(0)
    speckled = np.zeros((256, 256), np.float32)
    speckled[40:-40, 80:-80] = random.uniform(500, 3000, (176, 96))  # worse to compress than any bone
    small = atlas.thumbnail(speckled)
    monkeypatch.setattr(atlas, "thumbnails", lambda images: [small] * len(images))
    page = write(tmp_path / "page.html", latents, StudyTables([], [], [], []), [study[1][0]] * 2000)
    assert page.stat().st_size < 15e6


def test_the_page_needs_nothing_from_elsewhere(study):
    page = study[2].read_text()
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert "Latents &lt;/script&gt; &amp; more" in page
    assert "NaN" not in page.split('id="data">')[1].split("</script>")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (800, "dark"), (400, "light")])
def test_a_click_shows_the_right_pair(study, width, scheme):
    latents, images, path = study
    with open_page(path.as_uri(), width, scheme=scheme) as page:
        assert not overlaps(page)
        for index in (0, 17):
            page.evaluate("scrollTo(0, 0)")
            click_point(page, index)
            assert page.text_content("#chosen") == latents.name[index]
            partner = int(latents.pairs()[(latents.pairs() == index).any(1)].sum()) - index
            pictures = page.locator("#pair img")
            assert pictures.count() == 2
            for picture, shown in zip(pictures.all(), sorted([index, partner]), strict=True):
                assert picture.get_attribute("alt") == latents.name[shown]
                pixels, expected = pixels_of(picture, (64, 64)), expected_pixels(images[shown])
                assert np.abs(pixels - expected)[6:-6, 6:-6].mean() < 16
                others = [np.abs(pixels - expected_pixels(other)).mean() for other in images]
                assert int(np.argmin(others)) == shown
            row = page.locator("#bone tbody tr").first.text_content()
            assert f"{latents.attributes['height_mm'][index]:.1f}" in row
        assert not overlaps(page)


@pytest.mark.slow
def test_lasso_search_and_table_list_the_right_names(study):
    latents, _, path = study
    with open_page(path.as_uri()) as page:
        lasso(page, [1, 2, 7, 8])
        page.wait_for_selector("#count:text-is('4 selected')")
        assert page.input_value("#names").split("\n") == sorted(latents.name[[1, 2, 7, 8]])
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("#copy")
        page.wait_for_selector("#copy:text-is('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == page.input_value("#names")
        page.fill("#search", "004")
        assert page.input_value("#names").split("\n") == sorted(latents.name[latents.patient == "004"])
        page.fill("#search", "edente/001")
        assert page.text_content("#count") == "6 selected"
        page.click("#clear")
        assert page.text_content("#count") == "Nothing selected"
        page.locator("#patient-table tbody tr").first.click()
        assert page.text_content("#count") == "4 selected"


@pytest.mark.slow
def test_projection_colour_hover_and_joined_pairs(study):
    latents, _, path = study
    with open_page(path.as_uri()) as page:
        trace = "document.querySelector('.js-plotly-plot').data.find(trace => trace.name === 'dente')"
        before = page.evaluate(f"[{trace}.x, {trace}.y]")
        page.select_option("#method", "pca")
        assert page.evaluate(f"[{trace}.y, {trace}.x]") == before
        assert page.evaluate(f"new Set({trace}.marker.color).size") == 1
        page.select_option("#color", "patient")
        assert page.evaluate(f"new Set({trace}.marker.color).size") == 6
        page.select_option("#color", "density")
        assert page.evaluate(f"{trace}.marker.color")[0] == "#9aa0a8"
        page.check("#join")
        assert page.evaluate("document.querySelector('.js-plotly-plot').data[0].x.length") == 3 * 12
        page.mouse.move(*page.evaluate(POINT, 3))
        page.wait_for_selector(".hoverlayer .hovertext")
        text = page.text_content(".hoverlayer .hovertext")
        assert str(latents.name[3]) in text
        assert f"patient {latents.patient[3]}" in text
        assert "bone height" in text
