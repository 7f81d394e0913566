"""The full check: faults that show only in the pixels or the whole set, and sound sets without findings."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.checking import SIZE, check, faults, names, replace, source
from pti.check.full_check import full_check
from pti.common.errors import DataError
from pti.data import tif
from pti.data.checks.findings import WHOLE_SET
from pti.data.checks.quick import quick_check, require_sound
from pti.data.phantom import make_phantom


def test_a_sound_set_gives_no_finding_and_its_split(phantom):
    report = check(phantom, pixel_mm=0.3, batch_size=8)
    assert report.findings == []
    assert report.usable
    assert report.files == 60
    assert sum(report.pairs_per_split.values()) == 30
    assert set(report.pairs_per_split) == {"train", "val", "test"}
    assert quick_check(source(phantom)) == []


def test_every_file_of_the_broken_phantom_is_named_with_its_fault_and_no_other(tmp_path):
    make_phantom(tmp_path / "set", patients=10, slices=3, image_size=SIZE, seed=1, broken=True)
    report = check(tmp_path / "set")
    with open(tmp_path / "set" / "broken.csv", newline="") as file:
        broken = list(csv.DictReader(file))
    aliases = {"dangling": "unreadable", "folder": "unreadable"}
    expected = {(Path(row["file"]).stem, aliases.get(row["fault"], row["fault"])) for row in broken}
    assert {(Path(finding.file).stem, finding.fault) for finding in report.findings} == expected
    assert {finding.fault for finding in report.findings if finding.severity == "warning"} == {"shifted"}
    assert not report.usable
    with pytest.raises(DataError, match="errors in the data set") as caught:
        require_sound(report.findings)
    assert "1000_" in str(caught.value)


def test_parallel_and_serial_agree(phantom, monkeypatch):
    monkeypatch.setattr("pti.common.processes.MIN_PARALLEL_JOBS", 1)
    parallel = full_check(source(phantom), workers=2)
    serial = check(phantom)
    assert [pair.alignment for pair in parallel.facts] == [pair.alignment for pair in serial.facts]
    assert parallel.findings == serial.findings


@pytest.mark.parametrize("value", [-1000.0, 0.01])
def test_background_that_is_not_zero(data, value):
    name = names(data)[0]
    pixels = tif.read(data / "dente" / name).pixels
    replace(data / "dente" / name, np.where(pixels == 0, value, pixels))
    findings = [finding for finding in check(data).findings if finding.fault == "background"]
    assert faults(findings) == {("error", "background", f"dente/{name}")}
    assert f"{value:g}" in findings[0].what


def test_background_of_a_whole_set_is_reported_once(data):
    for folder in ("dente", "edente"):
        for name in names(data):
            pixels = tif.read(data / folder / name).pixels
            replace(data / folder / name, np.where(pixels == 0, -1000, pixels))
    findings = [finding for finding in check(data).findings if finding.fault == "background"]
    assert faults(findings) == {("error", "background", WHOLE_SET)}


def test_noisy_background(data):
    name = names(data)[0]
    pixels = tif.read(data / "dente" / name).pixels
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    replace(data / "dente" / name, np.where(pixels == 0, noise, pixels))
    assert ("error", "background", f"dente/{name}") in faults(check(data).findings)


def test_blank_image_and_bone_at_the_border(data):
    blank, cut = names(data)[:2]
    replace(data / "edente" / blank, np.zeros((SIZE, SIZE)))
    pixels = tif.read(data / "dente" / cut).pixels
    down = np.argmax(np.any(pixels != 0, 1)) + 8
    moved = [np.roll(tif.read(data / folder / cut).pixels, -down, 0) for folder in ("dente", "edente")]
    moved[0][-down:] = 0
    for folder, image in zip(("dente", "edente"), moved, strict=True):
        replace(data / folder / cut, image)
    found = faults(check(data).findings)
    assert found == {("error", "blank", f"edente/{blank}"), ("warning", "border", f"dente/{cut}")}


def test_shifted_pair_is_measured_in_pixels_and_millimetres(data):
    name = names(data)[4]
    replace(data / "edente" / name, np.roll(tif.read(data / "edente" / name).pixels, 6, 1))
    findings = check(data).findings
    assert faults(findings) == {("warning", "shifted", f"dente/{name}")}
    found = re.search(r"too far right by (.*) px = (.*) mm", findings[0].what)
    assert found
    assert [float(number) for number in found.groups()] == pytest.approx([6, 1.8], rel=0.03)


def test_images_that_share_nothing_are_said_once_to_be_unjudged(data):
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    for name in names(data):
        centre = generator.uniform(0.35 * SIZE, 0.65 * SIZE, 2)
        inside = np.hypot(y - centre[0], x - centre[1]) < generator.uniform(0.1, 0.3) * SIZE
        replace(data / "edente" / name, np.where(inside, generator.normal(1000, 100, inside.shape), 0))
    findings = [finding for finding in check(data).findings if finding.fault in ("shifted", "unjudged")]
    assert faults(findings) == {("warning", "unjudged", WHOLE_SET)}
    assert "alignment could not be judged for" in findings[0].what


def test_swapped_targets_of_two_patients(data):
    one, two = names(data)[0], names(data)[1]
    assert one.split("_")[-1] != two.split("_")[-1]
    first, second = (tif.read(data / "edente" / name).pixels for name in (one, two))
    replace(data / "edente" / one, second)
    replace(data / "edente" / two, first)
    findings = check(data).findings
    assert {(finding.fault, finding.file) for finding in findings} == {
        ("swapped", f"dente/{one}"),
        ("swapped", f"dente/{two}"),
    }


def test_same_pixels_within_a_pair_and_a_patient(data):
    one = names(data)[0]
    patient = one.split("_")[-1]
    two = next(name for name in names(data) if name.endswith(patient) and name != one)
    for folder in ("dente", "edente"):
        replace(data / folder / two, tif.read(data / folder / one).pixels)
    findings = check(data).findings
    assert {(finding.severity, finding.fault) for finding in findings} == {("warning", "duplicate")}
    replace(data / "edente" / one, tif.read(data / "dente" / one).pixels)
    assert ("error", "duplicate") in {(finding.severity, finding.fault) for finding in check(data).findings}


def test_a_patient_in_other_intensities(data):
    patient = names(data)[0].split("_")[-1]
    mine = [name for name in names(data) if name.endswith(patient)]
    for folder in ("dente", "edente"):
        for name in mine:
            replace(data / folder / name, tif.read(data / folder / name).pixels * 1.6)
    findings = check(data).findings
    assert {finding.fault for finding in findings} == {"drift"}
    assert all(f"patient {Path(patient).stem}" in finding.what for finding in findings)


def test_metal_in_one_patient_is_not_another_unit(data):
    patient = names(data)[0].split("_")[-1]
    for name in names(data):
        if name.endswith(patient):
            pixels = tif.read(data / "dente" / name).pixels
            rows = np.cumsum((pixels != 0).sum(1))
            pixels[(pixels != 0) & (rows < 0.1 * rows[-1])[:, None]] = 5 * pixels.max()
            replace(data / "dente" / name, pixels)
    assert "drift" not in {finding.fault for finding in check(data).findings}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_small_with_hostile_files(tmp_path):
    for folder in ("dente", "edente"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            path = tmp_path / folder / f"1000_HA_2021_02_{number:03d}.tif"
            if number % 2:
                zeros = np.zeros((4000, 4000), np.float32)
                tifffile.imwrite(path, zeros, compression="zlib", rowsperstrip=4000, metadata=None)
            else:
                tif.write(path, np.ones((64, 64)))
                with tifffile.TiffFile(path, mode="r+") as file:
                    file.pages.first.tags[257].overwrite(2_000_000)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pti.check.full_check import full_check\n"
        "from pti.data.checks.source import DataSource\n"
        "from pti.data.layouts import paired_folders\n"
        f"report = full_check(DataSource(Path({str(tmp_path)!r}), paired_folders), workers=1)\n"
        "assert report.count('error') == 40, report.count('error')\n"
        "assert 'torch' not in sys.modules\n"
        # Not ru_maxrss: a child process inherits the value of its parent.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200 * 1024
