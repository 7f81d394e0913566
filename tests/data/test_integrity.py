"""One test for each fault of the data that a check must find, and sets in which it must find nothing."""

import csv
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pti.data import tif
from pti.data.findings import WHOLE_SET, Finding
from pti.data.integrity import DataSource, Report, full_check, quick_check, require_sound
from pti.data.layouts import csv_table, paired_folders, single_folder
from pti.data.phantom import make_phantom
from pti.errors import DataError

SIZE = 128


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, patients=10, slices=3, image_size=SIZE, seed=3)
    return folder


@pytest.fixture
def data(phantom, tmp_path) -> Path:
    """A copy of the phantom that a test may break."""
    for name in ("dente", "edente"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for path in (phantom / name).iterdir():
            os.link(path, tmp_path / "set" / name / path.name)
    return tmp_path / "set"


def source(root: Path, layout=paired_folders, **settings) -> DataSource:
    return DataSource(root, layout, (0.6, 0.2, 0.2), **settings)


def check(root: Path, **settings) -> Report:
    return full_check(source(root, **settings), workers=1)


def found(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(finding.severity, finding.fault, finding.file) for finding in findings}


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "dente").iterdir())


def replace(path: Path, pixels: np.ndarray, pixel_mm: float | None = 0.3) -> None:
    """Write anew; the files of `data` are links to the shared phantom, which must stay as it is."""
    path.unlink()
    tif.write(path, pixels, pixel_mm)


def test_a_sound_set_gives_no_finding_and_its_split(phantom):
    report = check(phantom, pixel_mm=0.3, batch_size=8)
    assert report.findings == []
    assert report.usable
    assert report.files == 60
    assert sum(report.slices.values()) == 30
    assert set(report.slices) == {"train", "val", "test"}
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
    monkeypatch.setattr("pti.data.integrity.ALONE", 1)
    parallel = full_check(source(phantom), workers=2)
    serial = check(phantom)
    assert [pair.alignment for pair in parallel.facts] == [pair.alignment for pair in serial.facts]
    assert parallel.findings == serial.findings


def test_unreadable_file_is_listed(data, monkeypatch):
    name = names(data)[0]
    real = open

    def refuse(file, *arguments, **options):
        if str(file).endswith(f"edente{os.sep}{name}"):  # root may read everything: permissions can't be tried
            raise PermissionError(13, "Permission denied")
        return real(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    assert found(quick_check(source(data))) == {("error", "unreadable", f"edente/{name}")}


def test_links_that_leave_the_root_are_refused_and_not_opened(data, tmp_path):
    outside = tmp_path / "outside.tif"
    tif.write(outside, np.ones((SIZE, SIZE)), 0.3)
    inside, leaving = names(data)[:2]
    (data / "dente" / leaving).unlink()
    (data / "dente" / leaving).symlink_to(outside)
    (data / "spare.tif").write_bytes((data / "dente" / inside).read_bytes())
    (data / "dente" / inside).unlink()
    (data / "dente" / inside).symlink_to("../spare.tif")
    assert found(check(data).findings) == {("error", "outside", f"dente/{leaving}")}


def test_a_table_whose_paths_leave_the_root_is_refused(data, tmp_path):
    tif.write(tmp_path / "outside.tif", np.ones((SIZE, SIZE)), 0.3)
    rows = [f"dente/{name},edente/{name},{name}," for name in names(data)[:5]]
    table = ["condition,target,patient,split", *rows, "../outside.tif,,x,"]
    (data / "pairs.csv").write_text("\n".join(table))
    faults = found(quick_check(source(data, csv_table)))
    assert ("error", "outside", str(data / ".." / "outside.tif")) in faults or any(
        fault == "outside" for _, fault, _ in faults
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_named_tif_does_not_hang(data):
    os.mkfifo(data / "dente" / "9000_HA_2021_02_900.tif")
    faults = found(quick_check(source(data)))
    assert ("error", "unreadable", "dente/9000_HA_2021_02_900.tif") in faults


def test_empty_and_missing_folders_are_errors(tmp_path):
    assert {fault for _, fault, _ in found(quick_check(source(tmp_path)))} == {"layout"}
    for name in ("dente", "edente"):
        (tmp_path / name).mkdir()
    assert {fault for _, fault, _ in found(quick_check(source(tmp_path)))} == {"no_images"}


def test_an_empty_partner_folder_is_said_once(data):
    for path in (data / "dente").iterdir():
        path.unlink()
    assert found(quick_check(source(data))) == {("error", "missing_partner", WHOLE_SET)}


def test_single_images_need_no_partner(data):
    assert quick_check(source(data, partial(single_folder, folder="edente"))) == []


def test_unequal_sizes_and_pixel_sizes_in_a_pair(data):
    one, two, three = names(data)[:3]
    replace(data / "edente" / one, np.ones((64, 96)))
    replace(data / "edente" / two, tif.read(data / "edente" / two).pixels, 0.4)
    replace(data / "edente" / three, tif.read(data / "edente" / three).pixels, None)
    findings = quick_check(source(data))
    assert ("error", "size", f"dente/{one}") in found(findings)
    assert ("error", "pixel_size", f"dente/{two}") in found(findings)
    assert not any(three in finding.file for finding in findings)


def test_pixel_size_against_the_setting(phantom):
    assert found(quick_check(source(phantom, pixel_mm=0.15))) == {("warning", "pixel_size", WHOLE_SET)}


def test_another_type_than_the_rest(data):
    name = names(data)[0]
    path = data / "dente" / name
    pixels = tif.read(path).pixels
    path.unlink()
    tifffile.imwrite(path, pixels.astype(np.uint16), resolution=(1 / 0.03,) * 2, resolutionunit="CENTIMETER")
    assert ("warning", "mixed_types", f"dente/{name}") in found(quick_check(source(data)))


def test_names_without_patient(data):
    name = names(data)[0]
    for folder in ("dente", "edente"):
        (data / folder / name).rename(data / folder / "slice.tif")
    expected = {("error", "no_patient", f"{folder}/slice.tif") for folder in ("dente", "edente")}
    assert found(quick_check(source(data))) == expected


def test_a_patient_on_both_sides_of_a_table(data):
    rows = [
        f"dente/{name},edente/{name},{Path(name).stem.split('_')[-1]},train" for name in names(data)
    ]
    rows[0] = rows[0].replace(",train", ",val")
    (data / "pairs.csv").write_text("\n".join(["condition,target,patient,split", *rows]))
    findings = quick_check(source(data, csv_table))
    assert [finding.fault for finding in findings] == ["split_patient"]
    patient = rows[0].split(",")[2]
    assert f"patient {patient}" in findings[0].what


def test_a_patient_in_two_roots(data, tmp_path):
    own = tmp_path / "own"
    name = names(data)[0]
    for folder in ("dente", "edente"):
        (own / folder).mkdir(parents=True)
        (own / folder / f"7{name}").write_bytes((data / folder / name).read_bytes())
    findings = quick_check(source(data, val_root=own))
    assert {finding.fault for finding in findings} == {"split_patient"}


def test_too_few_patients_and_too_few_images(tmp_path):
    make_phantom(tmp_path / "two", patients=2, slices=1, image_size=64)
    assert {fault for _, fault, _ in found(quick_check(source(tmp_path / "two")))} == {"split"}
    make_phantom(tmp_path / "four", patients=4, slices=1, image_size=64)
    findings = quick_check(source(tmp_path / "four", batch_size=8))
    assert found(findings) == {("error", "few_images", WHOLE_SET)}


@pytest.mark.parametrize("value", [-1000.0, 0.01])
def test_background_that_is_not_zero(data, value):
    name = names(data)[0]
    pixels = tif.read(data / "dente" / name).pixels
    replace(data / "dente" / name, np.where(pixels == 0, value, pixels))
    findings = [finding for finding in check(data).findings if finding.fault == "background"]
    assert found(findings) == {("error", "background", f"dente/{name}")}
    assert f"{value:g}" in findings[0].what


def test_background_of_a_whole_set_is_said_once(data):
    for folder in ("dente", "edente"):
        for name in names(data):
            pixels = tif.read(data / folder / name).pixels
            replace(data / folder / name, np.where(pixels == 0, -1000, pixels))
    findings = [finding for finding in check(data).findings if finding.fault == "background"]
    assert found(findings) == {("error", "background", WHOLE_SET)}


def test_noisy_background(data):
    name = names(data)[0]
    pixels = tif.read(data / "dente" / name).pixels
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    replace(data / "dente" / name, np.where(pixels == 0, noise, pixels))
    assert ("error", "background", f"dente/{name}") in found(check(data).findings)


def test_blank_image_and_bone_at_the_border(data):
    blank, cut = names(data)[:2]
    replace(data / "edente" / blank, np.zeros((SIZE, SIZE)))
    pixels = tif.read(data / "dente" / cut).pixels
    down = np.argmax(np.any(pixels != 0, 1)) + 8
    moved = [np.roll(tif.read(data / folder / cut).pixels, -down, 0) for folder in ("dente", "edente")]
    moved[0][-down:] = 0
    for folder, image in zip(("dente", "edente"), moved, strict=True):
        replace(data / folder / cut, image)
    faults = found(check(data).findings)
    assert ("error", "blank", f"edente/{blank}") in faults
    assert ("warning", "border", f"dente/{cut}") in faults
    assert {fault for _, fault, _ in faults} == {"blank", "border"}


def test_shifted_pair_is_measured_in_pixels_and_millimetres(data):
    name = names(data)[4]
    replace(data / "edente" / name, np.roll(tif.read(data / "edente" / name).pixels, 6, 1))
    findings = check(data).findings
    assert found(findings) == {("warning", "shifted", f"dente/{name}")}
    assert "too far right by 6.0 px = 1.8" in findings[0].what or "by 5.9 px" in findings[0].what


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


@pytest.mark.slow
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
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from pti.data.integrity import DataSource, full_check\n"
        "from pti.data.layouts import paired_folders\n"
        f"report = full_check(DataSource(Path({str(tmp_path)!r}), paired_folders), workers=1)\n"
        "assert report.count('error') == 40, report.count('error')\n"
        "assert 'torch' not in sys.modules\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200


def test_a_directory_loop_ends_at_once(data):
    name = names(data)[0]
    path = data / "dente" / name
    content = bytearray(path.read_bytes())
    path.unlink()
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)
    assert found(quick_check(source(data))) == {("error", "loop", f"dente/{name}")}
