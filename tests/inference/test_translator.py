"""Sampling and summarizing: the same files for any batch size, interruption and number of devices."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from helpers.tiny_translator import TinyTranslator
from pti.common.errors import DataError, UsageError
from pti.common.randomness import sample_generator
from pti.data import tif
from pti.data.input_images import InputImage, find_images
from pti.inference.calibration_file import Calibration
from pti.inference.devices import choose_devices
from pti.inference.sampling import SampleTask, Sampling, TranslateBatch
from pti.inference.summarize import FOLDERS, SummarizeImage
from pti.inference.translator import translate_all
from pti.runs.manifest import Manifest

SHAPES = {"a": (48, 40), "b/c": (32, 32), "d": (24, 32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Create images of several sizes, the last without a resolution tag."""
    root = tmp_path_factory.mktemp("images")
    for number, (name, shape) in enumerate(SHAPES.items()):
        pixels = np.zeros(shape, np.float32)
        inside = (slice(4, -4), slice(8, -8))
        pixels[inside] = np.random.default_rng(number).uniform(800, 1500, pixels[inside].shape)
        (root / name).parent.mkdir(exist_ok=True)
        tif.write(root / f"{name}.tif", pixels, None if name == "d" else 0.2)
    return root


def build() -> nn.ModuleList:
    return nn.ModuleList([TinyTranslator()])


@dataclass
class Run:
    """One translation of images into a folder."""

    output_dir: Path
    images: list[InputImage]
    sampling: Sampling = field(default_factory=lambda: Sampling(samples=3).resolved(TinyTranslator()))
    targets: dict[str, Path] = field(default_factory=dict)
    module: TinyTranslator = field(default_factory=TinyTranslator)
    load: Callable[[], nn.ModuleList] | None = None
    calibration: Calibration | None = None

    @property
    def summarize(self) -> SummarizeImage:
        return SummarizeImage(self.output_dir, self.sampling, 0.15, 1500.0, self.targets, self.calibration)

    def __call__(self, batch_size: int = 4, devices: int = 1) -> list[dict]:
        translate = TranslateBatch(self.output_dir, 32, self.sampling)
        settings = {"command": "translate", **self.sampling.as_dict()}
        with Manifest(self.output_dir, settings, FOLDERS) as manifest:
            load = self.load or (lambda: nn.ModuleList([self.module]))
            chosen = choose_devices("cpu", devices)
            translate_all(load, translate, self.summarize, self.images, manifest, batch_size, chosen)
            return [self.summarize.recorded(manifest, image) for image in self.images]

    def files(self) -> dict[str, bytes]:
        paths = (path for folder in FOLDERS for path in (self.output_dir / folder).rglob("*"))
        return {str(path.relative_to(self.output_dir)): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def result(tmp_path_factory, folder) -> tuple[Run, list[dict]]:
    images = find_images(folder)
    run = Run(tmp_path_factory.mktemp("result") / "out", images, targets={"a": images[0].path})
    return run, run()


def test_each_sample_has_the_size_resolution_and_background_of_its_input(result):
    run, _ = result
    for image in run.images:
        original = tif.read(image.path)
        for number in range(3):
            sample = tif.read(run.output_dir / "samples" / f"{image.name}_s{number:02d}.tif")
            assert sample.pixels.shape == original.pixels.shape
            assert sample.pixel_mm == (original.pixel_mm and pytest.approx(original.pixel_mm))
            assert np.all(sample.pixels[original.pixels == 0] == 0)
            assert 700 < np.median(sample.pixels[sample.pixels != 0]) < 1600


def test_mean_and_spread_are_those_of_the_samples(result):
    run, _ = result
    for image in run.images:
        names = [f"samples/{image.name}_s{number:02d}.tif" for number in range(3)]
        samples = np.stack([tif.read(run.output_dir / name).pixels for name in names]).astype(np.float64)
        mean, spread = (tif.read(run.output_dir / of / f"{image.name}.tif").pixels for of in FOLDERS[1:3])
        assert np.allclose(mean, samples.mean(0), rtol=1e-6)
        assert np.allclose(spread, samples.std(0, ddof=1), rtol=1e-5, atol=1e-3)


def test_metrics_name_each_sample_and_compare_it_with_a_known_target(result):
    _, rows = result
    assert [row["name"] for row in rows] == list(SHAPES)
    for row in rows:
        heights = [sample["bone_height_mm"] for sample in row["samples"]]
        assert row["bone_height_mm"] == np.median(heights)
        assert row["height_spread_mm"] == pytest.approx(np.std(heights, ddof=1))
        assert [sample["file"] for sample in row["samples"]][1] == f"samples/{row['name']}_s01.tif"
        assert len({sample["seed"] for sample in row["samples"]}) == 3
    known, unknown, _ = rows
    assert known["height_error_mm"] == pytest.approx(known["condition_height_mm"] - known["bone_height_mm"])
    assert "height_error_mm" not in unknown
    assert "psnr" not in unknown["samples"][0]


def test_pictures_hold_all_panels_and_are_not_black(tmp_path, result):
    run, _ = result
    path = run.output_dir / "pictures" / "a.png"
    panel = np.asarray(Image.open(path).convert("L"))[:, : Image.open(path).width // 7]
    assert np.mean(panel > 100) > 0.1
    without_target = Run(tmp_path / "out", run.images[:1])
    without_target()
    other = Image.open(tmp_path / "out" / "pictures" / "a.png")
    assert other.width / Image.open(path).width == pytest.approx(6 / 7, rel=0.01)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_any_batch_size_and_order_give_the_same_images(tmp_path, result, batch_size):
    run, _ = result
    other = Run(tmp_path / "out", run.images[::-1], targets=run.targets)
    other(batch_size)
    assert other.files() == run.files()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
@pytest.mark.slow
def test_two_processes_give_the_same_images(tmp_path, result):
    run, rows = result
    other = Run(tmp_path / "out", run.images, targets=run.targets, load=build)
    assert other(2, devices=2) == rows
    assert other.files() == run.files()


def test_another_seed_gives_other_samples(tmp_path, result):
    run, _ = result
    other = Run(tmp_path / "out", run.images, Sampling(3, None, 5, 1.0, seed=1))
    other()
    ours, theirs = run.files(), other.files()
    assert all(theirs[name] != ours[name] for name in theirs if name.startswith("samples/"))


def test_shared_noise_is_that_of_the_patient(tmp_path):
    image = InputImage("a", tmp_path / "a.tif", "545")
    neighbour, stranger, nameless = (
        replace(image, name="b"),
        replace(image, patient="7"),
        replace(image, patient=""),
    )

    def seeds(images: list[InputImage], share_noise: bool) -> list[int]:
        sampling = Sampling(2, share_noise=share_noise)
        return [sampling.generator(image, sample).initial_seed() for image in images for sample in range(2)]

    first, second, *neighbours = seeds([image, neighbour], share_noise=True)
    assert neighbours == [first, second]
    assert first != second
    assert len({*neighbours, *seeds([stranger], share_noise=True)}) == 4
    assert seeds([nameless], share_noise=True) == seeds([image], share_noise=False)
    assert len(set(seeds([image, neighbour], share_noise=False))) == 4


class StoppedError(Exception):
    pass


class Stopping(TinyTranslator):
    """A translator that is interrupted in its third batch."""

    def translate(self, raw, generators, **settings):
        if len(self.calls) == 2:
            raise StoppedError
        return super().translate(raw, generators, **settings)


def test_an_interrupted_run_resumes_where_it_stopped(tmp_path, result, capsys):
    run, rows = result
    stopped = Run(tmp_path / "out", run.images, targets=run.targets, module=Stopping())
    with pytest.raises(StoppedError):
        stopped(2)
    there = stopped.files()
    assert sum(name.startswith("samples/") for name in there) == 4
    again = Run(tmp_path / "out", run.images, targets=run.targets)
    assert again(2) == rows
    assert "Resuming: 4 of 9 samples are done." in capsys.readouterr().out
    assert again.module.calls == [2, 2, 1]
    assert again.files() == run.files()


def test_finished_samples_are_not_computed_again(tmp_path, result):
    run, rows = result
    for changed in (False, True):
        again = Run(tmp_path / "out", run.images, targets=run.targets)
        if changed:
            (tmp_path / "out" / "samples" / "a_s01.tif").unlink()
        assert again(4) == rows
        assert again.module.calls == ([4] if changed else [4, 4, 1])
        assert again.files() == run.files()
    kept = Run(tmp_path / "out", run.images, targets=run.targets)
    kept(4)
    assert kept.module.calls == []


def test_another_calibration_redraws_pictures_and_keeps_the_samples(tmp_path, result):
    uncalibrated, rows = result
    folder, known = tmp_path / "out", {"images": uncalibrated.images, "targets": uncalibrated.targets}
    Run(folder, **known)(4)
    before = {path: path.stat().st_mtime_ns for path in (folder / "samples").rglob("*.tif")}
    for corrections in ({0.9: 1.5}, {0.8: 0.5, 0.9: np.inf}, {0.8: 0.5, 0.9: np.inf}):
        run = Run(folder, calibration=Calibration({"height": corrections}, "a test"), **known)
        level, moved = next((level, moved) for level, moved in corrections.items() if np.isfinite(moved))
        for row in run(4):
            heights = [sample["bone_height_mm"] for sample in row["samples"]]
            assert row["interval_level"] == level
            assert row["height_low_mm"] == pytest.approx(min(heights) - moved)
            assert row["height_high_mm"] == pytest.approx(max(heights) + moved)
        assert run.module.calls == []
        assert run.files()["pictures/a.png"] != uncalibrated.files()["pictures/a.png"]
    drawn = set()
    for factors in ({0.9: 2.0}, {0.8: 1.0, 0.9: np.inf}, {0.9: 3.0}):
        calibration = Calibration({"height": {0.9: 1.5}}, "a test", factors)
        run = Run(folder, calibration=calibration, **known)
        level, factor = next((level, factor) for level, factor in factors.items() if np.isfinite(factor))
        assert {(row["band_level"], row["band_factor"]) for row in run(4)} == {(level, factor)}
        drawn.add(run.files()["pictures/a.png"])
    assert len(drawn) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert Run(folder, **known)(4) == rows
    assert Run(folder, **known).files() == uncalibrated.files()


def test_other_settings_are_refused(tmp_path, folder):
    images = find_images(folder)
    Run(tmp_path / "out", images)()
    with pytest.raises(UsageError, match="steps was 5, now 6"):
        Run(tmp_path / "out", images, Sampling(3, steps=6).resolved(TinyTranslator()))()


def test_one_sample_has_no_spread(tmp_path, folder):
    run = Run(tmp_path / "out", find_images(folder)[:1], Sampling(1, None, 5, 1.0))
    assert run()[0]["height_spread_mm"] == 0
    assert sorted(run.files()) == ["mean/a.tif", "pictures/a.png", "samples/a_s00.tif"]


def test_a_target_of_another_size_is_named(tmp_path, folder):
    images = find_images(folder)
    run = Run(tmp_path / "out", images[:1], targets={"a": images[1].path})
    with pytest.raises(DataError, match=r"c\.tif: found 32 × 32 pixels"):
        run()


def test_sampling_takes_missing_settings_from_the_module():
    module = TinyTranslator()
    assert Sampling(2).resolved(module).as_dict() == {
        "samples": 2,
        "sampler": "ddim(eta=0.5)",
        "steps": 5,
        "guidance_scale": 1.0,
        "seed": 0,
        "share_noise": False,
        "mirror": False,
        "models": 1,
        "precision": "float32",
    }
    assert Sampling(steps=9).resolved(module).steps == 9


def test_settings_that_the_module_refuses_are_reported():
    with pytest.raises(UsageError, match="steps=1001"):
        Sampling(steps=1001).resolved(TinyTranslator())


def test_a_deterministic_module_gives_one_sample():
    module = TinyTranslator()
    module.deterministic = True
    assert Sampling(samples=4).resolved(module).as_dict() == {**Sampling().as_dict(), "samples": 1}
    assert Sampling(samples=4, mirror=True).resolved(module, module, module).samples == 6


def test_models_take_turns_with_their_own_settings_unless_they_agree():
    one, other = TinyTranslator(), TinyTranslator()
    assert Sampling(samples=5).resolved(one, other).steps == 5
    other.own["steps"] = 7
    resolved = Sampling(samples=5, mirror=True).resolved(one, other)
    assert (resolved.steps, resolved.sampler, resolved.models) == (None, None, 2)
    assert [resolved.model_of(sample) for sample in range(5)] == [0, 1, 0, 1, 0]
    assert [resolved.is_mirrored(sample) for sample in range(5)] == [False, False, True, True, False]
    assert not any(Sampling(samples=5).is_mirrored(sample) for sample in range(5))
    with pytest.raises(UsageError, match="at least 2"):
        Sampling(samples=1).resolved(one, other)


def test_the_noise_of_a_sample_never_changes():
    generator = sample_generator(0, "1000_HA_2021_02_545", 3)
    assert generator.initial_seed() == 593053758309861491
    seeds = {
        sample_generator(seed, name, sample).initial_seed()
        for seed in (0, 1)
        for name in ("a", "é")
        for sample in range(3)
    }
    assert len(seeds) == 12
    assert sample_generator(0, "é", 0).initial_seed() == sample_generator(0, "e\u0301", 0).initial_seed()


def test_samples_are_numbered_in_two_digits(folder):
    assert SampleTask(find_images(folder)[1], 12).file == "samples/b/c_s12.tif"
