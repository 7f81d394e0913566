"""``python -m pti.explore``: reconstructions and samples, the server, and the page in a browser."""

import os
import socket
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
import torch

from helpers import serving
from helpers.browsing import click_point, isolated_points, lasso, open_page, overlaps, pixels_of
from helpers.in_process import run_command
from helpers.latent_study_setup import LATENT_ATTRIBUTES, StudyInputs, make_study_inputs
from helpers.tiny_checkpoints import SIZE, save_translator
from pti.data.input_images import find_images
from pti.drawing.panels import grey, tissue_window
from pti.explore.__main__ import main
from pti.explore.explorer import Explorer
from pti.explore.panels import attribute_panel
from pti.explore.server import is_loopback, listen
from pti.latent_study.latents import Encode
from pti.runs.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> StudyInputs:
    return make_study_inputs(tmp_path_factory.mktemp("study"))


def explorer_of(path: Path, data: Path) -> Explorer:
    module = open_checkpoint(path).load_module()
    images = find_images(data)
    with torch.inference_mode():
        latents = Encode(SIZE, 0.15)(module, images)
    return Explorer(module, latents, images, SIZE, 0.15, seed=3)


@pytest.fixture(scope="module")
def explorer(study) -> Explorer:
    return explorer_of(study.checkpoint, study.data)


@pytest.fixture(scope="module")
def second_stage(tmp_path_factory, study) -> Path:
    return save_translator(tmp_path_factory.mktemp("ldm") / "ldm.ckpt", study.data)


def test_a_walk_goes_from_one_reconstruction_to_the_other(explorer):
    first, second = explorer.latents.pairs()[0]
    frames = explorer.walk(first, second, 5)
    assert len(frames) == 5
    assert all(frame.shape == (64, 64) for frame in frames)
    for frame, index in ((frames[0], first), (frames[-1], second)):
        expected = explorer.reconstruction(index)
        assert np.allclose(frame, expected, atol=1e-3 * np.abs(expected).max())
    assert explorer.distance(first, first) == 0
    assert explorer.distance(first, second) > 0


def test_a_walk_along_an_attribute_starts_from_the_reconstruction(tmp_path, explorer):
    study = make_study_inputs(tmp_path, attributes=LATENT_ATTRIBUTES)
    own = explorer_of(study.checkpoint, study.data)
    before, at, after = own.attribute_walk(0, "height", np.array([-2.0, 0.0, 2.0]))
    expected = own.reconstruction(0)
    assert np.allclose(at, expected, atol=1e-3 * np.abs(expected).max())
    assert not np.allclose(before, after, atol=1e-2 * np.abs(expected).max())
    titles = [figure.children[1].children[0].children for figure in attribute_panel(own, [0], "height", 3)]
    assert titles == ["-2.0 SD", "+0.0 SD", "+2.0 SD"]
    assert "no such attribute" in str(attribute_panel(own, [0], "weight", 3))
    assert "no such attribute" in str(attribute_panel(explorer, [0], "height", 3))


def test_samples_are_those_of_translate(explorer, second_stage, study):
    assert explorer.translator is None
    other = explorer_of(second_stage, study.data)
    assert other.translator is not None
    two, three = other.samples(0, 2), other.samples(0, 3)
    assert [image.shape for image in three] == [(64, 64)] * 3
    assert np.allclose(two[1], three[1], atol=1e-3 * np.abs(three[1]).max() + 1e-6)
    assert not np.array_equal(three[0], three[1])


def test_a_taken_port_is_skipped_and_the_address_is_loopback():
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = listen("127.0.0.1", port)
    try:
        assert port < second.getsockname()[1] <= port + 50
        assert second.getsockname()[0] == "127.0.0.1"
    finally:
        first.close()
        second.close()
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.4", "example.org")] == [False] * 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["host=0.0.0.0"], "ssh -L"),
        (["port=70000"], "port=70000"),
        (["methods=[pca,lda]"], "methods=lda"),
        (["prt=8051"], "Did you mean port?"),
    ],
)
def test_mistakes(tmp_path, study, arguments, named):
    assert named in run_command(main, tmp_path, f"ckpt={study.checkpoint}", *arguments, code=2).stderr


def served(folder: Path, path: Path, *arguments: str) -> AbstractContextManager[tuple[str, Popen]]:
    """Serve the page of a checkpoint with the fastest projections."""
    settings = ("method=pca", "methods=[tsne]", "output_dir=out", "cache_dir=cache")
    return serving.served(folder, f"ckpt={path}", *settings, *arguments)


def fetch(address: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@pytest.mark.slow
def test_serves_only_its_page(tmp_path, study):
    with served(tmp_path, study.checkpoint, "port=0") as (address, _):
        assert fetch(address)[0] == 200
        assert fetch(address, "evil.example:80")[0] == 400
        outside = f"{study.data}/edente"
        name = next(iter(os.listdir(outside)))
        for path in (f"assets/{name}", f"assets/..{outside}/{name}", f"..{outside}/{name}", "assets/app.py"):
            code, body = fetch(address + path)
            # Dash returns the page itself for unknown paths.
            assert code == 404 or b'id="_dash-config"' in body
        port = int(address.rsplit(":", 1)[1].strip("/"))
        other = next((a for a in _addresses() if not a.startswith("127.")), None)
        if other is not None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((other, port), timeout=2)


def _addresses() -> list[str]:
    try:
        return socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (800, "dark")])
def test_a_click_shows_image_reconstruction_and_difference(tmp_path, study, explorer, width, scheme):
    latents = explorer.latents
    with (
        served(tmp_path, study.checkpoint, "port=0") as (address, _),
        open_page(address, width, scheme=scheme) as page,
    ):
        assert not overlaps(page)
        isolated = isolated_points(page, len(latents))
        first = next(index for index in isolated if latents.group[index] == "dente")
        second = int(latents.pairs()[latents.pairs()[:, 0] == first][0, 1])
        other = next(index for index in isolated if index not in (first, second))
        click_point(page, first)
        page.wait_for_selector(f"#chosen h3:text-is('{latents.name[first]}')")
        assert page.locator("#chosen img").count() == 6
        for index in (first, second):
            original = explorer.original(index)
            window = tissue_window(original)
            for what, raw in (("", original), (", reconstruction", explorer.reconstruction(index))):
                picture = page.locator(f"#chosen img[alt='{latents.name[index]}{what}']")
                expected = grey(raw, window)[..., 0].astype(float)
                assert np.abs(pixels_of(picture, raw.shape) - expected)[6:-6, 6:-6].mean() < 16
        picture.click()
        assert picture.bounding_box()["width"] > 700
        page.mouse.click(2, 2)
        assert picture.bounding_box()["width"] < 200
        shown = page.text_content("#distances")
        assert f"{explorer.distance(first, second):.3f}" in shown
        page.wait_for_function("document.querySelectorAll('#frames-shown img').length === 8")
        page.evaluate("scrollTo(0, 0)")
        click_point(page, other)
        page.wait_for_selector(f"#chosen h3:text-is('{latents.name[other]}')")
        assert f"{explorer.distance(first, other):.3f}" in page.text_content("#distances")
        page.click("text=between the last two clicked points")
        page.fill("#frames", "4")
        page.press("#frames", "Enter")
        page.wait_for_function("document.querySelectorAll('#frames-shown img').length === 4")
        assert not overlaps(page)


@pytest.mark.slow
def test_lasso_and_search_list_the_right_names(tmp_path, study, explorer):
    latents = explorer.latents
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with (
        taken,
        served(tmp_path, study.checkpoint, f"port={port}") as (address, _),
        open_page(address) as page,
    ):
        assert str(port) not in address
        everything = list(range(len(latents)))
        lasso(page, everything)
        page.wait_for_selector(f"#count:text-is('{len(latents)} selected')")
        assert page.input_value("#names").split("\n") == sorted(latents.name)
        page.fill("#search", "003")
        page.wait_for_selector("#count:text-is('4 selected')")
        assert page.input_value("#names").split("\n") == sorted(latents.name[latents.patient == "003"])


@pytest.mark.slow
def test_samples_of_a_second_stage(tmp_path, study, second_stage):
    with served(tmp_path, second_stage, "port=0") as (address, _), open_page(address) as page:
        click_point(page, 2)
        page.wait_for_selector("#samples-shown >> text=Press Sample")
        page.fill("#samples", "2")
        page.click("#sample")
        # Two samples and the true image.
        page.wait_for_function("document.querySelectorAll('#samples-shown img').length === 3")
        assert page.locator("#samples-shown img").count() == 3
