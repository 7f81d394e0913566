"""The quick check: faults that show in names, headers and folders."""

import os
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from omegaconf import OmegaConf

from helpers.checking import SIZE, check, faults, names, replace, source
from pti.common.conf_dir import CONF_DIR
from pti.common.errors import DataError
from pti.data import tif
from pti.data.checks.findings import WHOLE_SET
from pti.data.checks.headers import DEFAULT_PIXEL_MM
from pti.data.checks.quick import quick_check, require_sound
from pti.data.checks.structure import check_structure
from pti.data.layouts import csv_table, paired_folders, single_folder
from pti.data.phantom import make_phantom
from pti.data.splits import open_folders
from pti.modules.tif_data import TifDataModule


def test_unreadable_file_is_listed(data, monkeypatch):
    name = names(data)[0]
    real = open

    def refuse(file, *arguments, **options):
        # Simulated, because permissions don't stop a test that runs as root.
        if str(file).endswith(f"edente{os.sep}{name}"):
            raise PermissionError(13, "Permission denied")
        return real(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    assert faults(quick_check(source(data))) == {("error", "unreadable", f"edente/{name}")}


def test_links_that_leave_the_root_are_refused_and_not_opened(data, tmp_path):
    outside = tmp_path / "outside.tif"
    tif.write(outside, np.ones((SIZE, SIZE)), 0.3)
    inside, leaving = names(data)[:2]
    (data / "dente" / leaving).unlink()
    (data / "dente" / leaving).symlink_to(outside)
    (data / "spare.tif").write_bytes((data / "dente" / inside).read_bytes())
    (data / "dente" / inside).unlink()
    (data / "dente" / inside).symlink_to("../spare.tif")
    assert faults(check(data).findings) == {("error", "outside", f"dente/{leaving}")}


@pytest.mark.parametrize("whole", [True, False], ids=["linked folders", "folders of links"])
def test_linked_folders_are_reported_once_and_may_be_allowed(data, tmp_path, whole):
    for folder in ("dente", "edente"):
        (data / folder).rename(tmp_path / folder)
        if whole:
            (data / folder).symlink_to(tmp_path / folder)
            continue
        (data / folder).mkdir()
        for path in (tmp_path / folder).iterdir():
            (data / folder / path.name).symlink_to(path)
    findings = [finding for finding in quick_check(source(data)) if finding.fault == "outside"]
    assert [finding.file for finding in findings] == ["dente", "edente"]
    assert all(str(tmp_path / finding.file) in finding.what for finding in findings)
    assert all("data.allow_links=true" in finding.fix for finding in findings)
    assert quick_check(source(data, allow_links=True)) == []
    with pytest.raises(DataError, match=r"data\.allow_links=true"):
        open_folders(data, paired_folders, (0.6, 0.2, 0.2), 0, {})
    (folder,) = open_folders(data, paired_folders, (0.6, 0.2, 0.2), 0, {}, allow_links=True)
    assert len(folder.pairs) == 30


def test_allowed_links_permit_no_paths_that_leave_the_root(data, tmp_path):
    tif.write(tmp_path / "outside.tif", np.ones((SIZE, SIZE)), 0.3)
    (data / "pairs.csv").write_text("condition,target,patient\n,../outside.tif,x\n")
    assert "outside" in {finding.fault for finding in quick_check(source(data, csv_table, allow_links=True))}
    with pytest.raises(DataError, match="lead out"):
        open_folders(data, csv_table, (1, 0, 0), 0, {}, allow_links=True)


def test_a_table_whose_paths_leave_the_root_is_refused(data, tmp_path):
    tif.write(tmp_path / "outside.tif", np.ones((SIZE, SIZE)), 0.3)
    rows = [f"dente/{name},edente/{name},{name}," for name in names(data)[:5]]
    table = ["condition,target,patient,split", *rows, "../outside.tif,,x,"]
    (data / "pairs.csv").write_text("\n".join(table))
    findings = faults(quick_check(source(data, csv_table)))
    assert "outside" in {fault for _, fault, _ in findings}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_named_tif_does_not_hang(data):
    os.mkfifo(data / "dente" / "9000_HA_2021_02_900.tif")
    findings = faults(quick_check(source(data)))
    assert ("error", "unreadable", "dente/9000_HA_2021_02_900.tif") in findings


def test_empty_and_missing_folders_are_errors(tmp_path):
    assert {fault for _, fault, _ in faults(quick_check(source(tmp_path)))} == {"layout"}
    for name in ("dente", "edente"):
        (tmp_path / name).mkdir()
    assert {fault for _, fault, _ in faults(quick_check(source(tmp_path)))} == {"no_images"}


def test_an_empty_partner_folder_is_reported_once(data):
    for path in (data / "dente").iterdir():
        path.unlink()
    assert faults(quick_check(source(data))) == {("error", "missing_partner", WHOLE_SET)}


def test_single_images_need_no_partner(data):
    assert quick_check(source(data, partial(single_folder, folder="edente"))) == []


def test_unequal_sizes_and_pixel_sizes_in_a_pair(data):
    one, two, three = names(data)[:3]
    replace(data / "edente" / one, np.ones((64, 96)))
    replace(data / "edente" / two, tif.read(data / "edente" / two).pixels, 0.4)
    replace(data / "edente" / three, tif.read(data / "edente" / three).pixels, None)
    findings = quick_check(source(data))
    assert ("error", "size", f"dente/{one}") in faults(findings)
    assert ("error", "pixel_size", f"dente/{two}") in faults(findings)
    assert not any(three in finding.file for finding in findings)


def test_pixel_size_against_the_setting(phantom):
    assert faults(quick_check(source(phantom, pixel_mm=0.2))) == {("warning", "pixel_size", WHOLE_SET)}


def test_the_default_pixel_size_contradicts_the_files_only_where_some_state_none(data):
    assert quick_check(source(data, pixel_mm=DEFAULT_PIXEL_MM)) == []
    name = names(data)[0]
    replace(data / "edente" / name, tif.read(data / "edente" / name).pixels, None)
    findings = faults(quick_check(source(data, pixel_mm=DEFAULT_PIXEL_MM)))
    assert findings == {("warning", fault, WHOLE_SET) for fault in ("no_pixel_size", "pixel_size")}


def test_the_default_pixel_size_is_that_of_the_configuration():
    assert OmegaConf.load(CONF_DIR / "data" / "tif.yaml").pixel_mm == DEFAULT_PIXEL_MM


def test_another_type_than_the_rest(data):
    name = names(data)[0]
    path = data / "dente" / name
    pixels = tif.read(path).pixels
    path.unlink()
    tifffile.imwrite(
        path, pixels.astype(np.uint16), resolution=(1 / 0.03, 1 / 0.03), resolutionunit="CENTIMETER"
    )
    assert ("warning", "mixed_types", f"dente/{name}") in faults(quick_check(source(data)))


def test_names_without_patient(data):
    name = names(data)[0]
    for folder in ("dente", "edente"):
        (data / folder / name).rename(data / folder / "slice.tif")
    expected = {("error", "no_patient", f"{folder}/slice.tif") for folder in ("dente", "edente")}
    assert faults(quick_check(source(data))) == expected


def test_a_patient_in_two_splits_of_a_table(data):
    rows = [f"dente/{name},edente/{name},{Path(name).stem.split('_')[-1]},train" for name in names(data)]
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
    findings = quick_check(source(data, extra_roots={"val": own}))
    assert {finding.fault for finding in findings} == {"split_patient"}


def test_too_few_patients_and_too_few_images(tmp_path):
    make_phantom(tmp_path / "two", patients=2, slices=1, image_size=64)
    assert {fault for _, fault, _ in faults(quick_check(source(tmp_path / "two")))} == {"split"}
    make_phantom(tmp_path / "four", patients=4, slices=1, image_size=64)
    findings = quick_check(source(tmp_path / "four", batch_size=8))
    assert faults(findings) == {("error", "few_images", WHOLE_SET)}


@pytest.mark.parametrize("sources", ["pairs", "target", "condition", "both"])
@pytest.mark.parametrize("subset", [None, 2])
def test_the_samples_that_training_uses_are_counted(data, sources, subset):
    module = TifDataModule(
        data,
        paired_folders,
        fractions=(0.6, 0.2, 0.2),
        sources=sources,
        subset=subset,
        batch_size=1,
        image_size=64,
        cache=False,
    )
    module.setup("fit")
    samples = len(module.training_set().samples)
    settings = {"sources": sources, "subset": subset, "devices": 2}
    assert "few_images" not in str(quick_check(source(data, batch_size=samples // 2, **settings)))
    (finding,) = quick_check(source(data, batch_size=samples // 2 + 1, **settings))
    assert finding.what.startswith(f"only {samples} training samples, fewer than one batch of")
    assert finding.fix == f"Set data.batch_size={samples // 2}, or add images."


def test_a_directory_loop_ends_at_once(data):
    name = names(data)[0]
    path = data / "dente" / name
    content = bytearray(path.read_bytes())
    path.unlink()
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)
    assert faults(quick_check(source(data))) == {("error", "loop", f"dente/{name}")}


@pytest.mark.parametrize("own_root", [False, True])
def test_the_split_is_the_one_that_training_uses(data, tmp_path, own_root):
    roots = {}
    if own_root:
        roots["val"] = tmp_path / "own"
        make_phantom(roots["val"], patients=2, slices=1, image_size=64, seed=9)
        for path in roots["val"].glob("*/*.tif"):
            path.rename(path.with_name(path.name.replace("_0", "_9")))
    checked = check_structure(source(data, extra_roots=roots))
    assert not [finding for finding in checked.findings if finding.severity == "error"]
    folders = open_folders(data, paired_folders, (0.6, 0.2, 0.2), 0, roots)
    for folder in folders:
        for pair, split in zip(folder.pairs, folder.splits, strict=True):
            assert checked.splits[pair.patient] == split


def test_files_without_a_pixel_size_are_counted_once(data):
    assert quick_check(source(data, pixel_mm=0.3)) == []
    for name in names(data)[:2]:
        replace(data / "edente" / name, tif.read(data / "edente" / name).pixels, None)
    (finding,) = quick_check(source(data, pixel_mm=0.3))
    assert (finding.severity, finding.fault, finding.file) == ("warning", "no_pixel_size", WHOLE_SET)
    assert finding.what == "2 of 60 files state no pixel size: data.pixel_mm=0.3 is assumed"
    for path in [*(data / "dente").iterdir(), *(data / "edente").iterdir()]:
        replace(path, np.ones((8, 8)), None)
    assert "60 of 60" in quick_check(source(data, pixel_mm=0.3))[0].what


def test_incredible_and_contradicting_pixel_sizes_are_named(data):
    tiny, two = names(data)[:2]
    replace(data / "dente" / tiny, np.ones((8, 8)), 1e-6)
    (data / "dente" / two).unlink()
    description = "ImageJ=1.54f\nunit=mm\n"
    resolution = {"resolution": (4, 4), "resolutionunit": "CENTIMETER"}
    pixels = np.ones((8, 8), np.float32)
    tifffile.imwrite(data / "dente" / two, pixels, description=description, metadata=None, **resolution)
    findings = faults(quick_check(source(data)))
    assert findings == {("error", "pixels", f"dente/{tiny}"), ("error", "pixels", f"dente/{two}")}


def test_messages_are_whole_sentences_with_right_counts(data, tmp_path):
    def lines(**settings) -> list[str]:
        with pytest.raises(DataError) as caught:
            require_sound(quick_check(source(data, **settings)))
        return str(caught.value).splitlines()

    count, line = lines(batch_size=10**6)
    assert count.startswith("1 error in")
    assert "training samples, fewer" in line
    second = (data / "dente" / names(data)[0]).with_suffix(".tiff")
    second.write_bytes(b"")
    assert lines()[1].endswith("has the same name. Remove one of the two.")
    second.unlink()
    for folder in ("dente", "edente"):
        for path in sorted((data / folder).iterdir())[2:]:
            path.unlink()
        for number, path in enumerate(sorted((data / folder).iterdir())):
            path.rename(data / folder / f"{number}.tif")
    (path,) = [line for line in lines() if "no patient" in line]
    assert path.startswith("  (whole set): 4 of 4, for example dente/0.tif")
    for number in range(2):
        for folder in ("dente", "edente"):
            (data / folder / f"{number}.tif").rename(data / folder / f"{number}_a_b_c_7.tif")
    (line,) = lines()[1:]
    assert line.startswith("  (whole set): too few patients (1) for the splits train, val, test: each needs")
    assert "needs one. Set the share" in line
    assert ".." not in line
