"""The data module: batches, splits, sharding, workers, and the mistakes that it rejects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.image_sets import WriteSet
from pti.common.errors import DataError, UsageError
from pti.data import tif
from pti.data.augment import Augmentation
from pti.data.layouts import paired_folders, single_folder
from pti.modules.tif_data import TifDataModule


def _data(root: Path, **options: Any) -> TifDataModule:
    settings = {"image_size": 32, "batch_size": 2, "num_workers": 0, "fractions": (0.6, 0.2, 0.2)}
    return TifDataModule(
        root, **{"layout": paired_folders, "cache_dir": root.parent / "cache", **settings, **options}
    )


def _ready(root: Path, **options: Any) -> TifDataModule:
    data = _data(root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_order_and_augmentation_do_not_depend_on_workers(paired_set: Path) -> None:
    augmentation = Augmentation(horizontal_flip=0.5, affine=0.5, elastic=0.5)
    batches = {}
    for workers in (0, 2):
        data = _ready(paired_set, augmentation=augmentation, num_workers=workers, seed=5)
        loader = data.train_dataloader()
        batches[workers] = list(loader)
        loader.close()
    for alone, parallel in zip(batches[0], batches[2], strict=True):
        assert alone["name"] == parallel["name"]
        assert torch.equal(alone["condition"], parallel["condition"])
        assert torch.equal(alone["target"], parallel["target"])


def test_ranks_share_the_samples_and_their_augmentation(
    paired_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmentation = Augmentation(horizontal_flip=0.5, affine=0.5)
    one, two = {}, {}
    for images, world, batch_size in ((one, 1, 4), (two, 2, 2)):
        for rank in range(world):
            data = _ready(paired_set, augmentation=augmentation, batch_size=batch_size)
            monkeypatch.setattr(data, "rank_and_world_size", lambda place=(rank, world): place)
            for number, batch in enumerate(data.train_dataloader()):
                for name, image in zip(batch["name"], batch["target"], strict=True):
                    assert name not in images
                    images[name] = (number, image)
    assert one.keys() == two.keys()
    assert all(one[name][0] == two[name][0] and torch.equal(one[name][1], two[name][1]) for name in one)


def test_batches_hold_what_the_files_hold(paired_set: Path) -> None:
    for cache in (True, False):
        data = _ready(paired_set, cache=cache)
        for batch in data.train_dataloader():
            assert batch["condition"].dtype == torch.float32
            assert batch["condition"].shape == batch["target"].shape == (len(batch["name"]), 1, 32, 32)
            torch.testing.assert_close(batch["pixel_mm"], torch.full((len(batch["name"]),), 0.15))
            for position, name in enumerate(batch["name"]):
                stored = tif.read(paired_set / "edente" / f"{name}.tif").pixels
                assert np.array_equal(batch["target"][position, 0].numpy(), stored)
                assert name.endswith(batch["patient"][position])


def test_sources_pick_single_images(paired_set: Path) -> None:
    counts = {}
    for sources in ("target", "condition", "both"):
        data = _ready(paired_set, sources=sources)
        batch = next(iter(data.train_dataloader()))
        assert batch["image"].shape == (2, 1, 32, 32)
        assert "target" not in batch
        counts[sources] = data.split_counts()["train"]["images"]
        folder = {"target": "edente/", "condition": "dente/", "both": ""}[sources]
        for name, image in zip(batch["name"], batch["image"], strict=True):
            assert np.array_equal(image[0].numpy(), tif.read(paired_set / f"{folder}{name}.tif").pixels)
        assert len(list(data.training_images())) == counts[sources]
    assert counts["both"] == 2 * counts["target"] == 2 * counts["condition"]
    with pytest.raises(UsageError, match=r"data\.sources"):
        _data(paired_set, sources="dente")


def test_splits_contain_every_pair_once_and_share_no_patient(paired_set: Path) -> None:
    data = _ready(paired_set)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    splits = [[pair for batch in loader for pair in _named(batch)] for loader in loaders]
    expected = {(pair.name, pair.patient) for pair in paired_folders(paired_set)}
    assert {pair for split in splits for pair in split} == expected
    assert sum(map(len, splits)) == len(expected)
    patients = [{patient for _, patient in split} for split in splits]
    assert all(patients)
    assert sum(map(len, patients)) == 6


def _named(batch: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(batch["name"], batch["patient"], strict=True))


def test_separate_roots_for_val_and_test(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set(patients=4, slices=2)
    val = tmp_path / "val"
    for folder in ("dente", "edente"):
        (val / folder).mkdir(parents=True)
        tif.write(val / folder / "000_HA_2021_02_900.tif", np.ones((32, 32)))
    data = _ready(root, val_root=val, fractions=(0.8, 0.1, 0.1))
    assert data.split_counts()["val"] == {"patients": 1, "images": 2}
    assert sum(counts["patients"] for counts in data.split_counts().values()) == 5
    with pytest.raises(DataError, match=r"in the split .* of another root"):
        _ready(root, val_root=root)


def test_single_folder_trains_a_vae(write_set: WriteSet) -> None:
    root = write_set(patients=4) / "edente"
    data = _ready(root, layout=single_folder, sources="target")
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 1, 32, 32)
    with pytest.raises(DataError, match="condition or target image missing"):
        _ready(root, layout=single_folder, sources="pairs")


def test_fewer_images_than_a_batch_are_rejected(paired_set: Path) -> None:
    with pytest.raises(DataError, match=r"fewer than one batch of 64.* Set data\.batch_size="):
        _ready(paired_set, batch_size=64)


def test_missing_partner_and_unknown_patient_are_named(paired_set: Path) -> None:
    (paired_set / "dente" / "001_HA_2021_02_002.tif").unlink()
    with pytest.raises(DataError, match="001_HA_2021_02_002"):
        _ready(paired_set)
    tif.write(paired_set / "dente" / "001_HA_2021_02_002.tif", np.ones((32, 32)))
    tif.write(paired_set / "dente" / "noname.tif", np.ones((32, 32)))
    with pytest.raises(DataError, match=r"noname: no patient"):
        _ready(paired_set)


@pytest.mark.parametrize("workers", [0, 2])
def test_deleted_file_is_named_when_the_cache_is_off(paired_set: Path, workers: int) -> None:
    data = _ready(paired_set, cache=False, num_workers=workers)
    loader = data.train_dataloader()
    gone = paired_set / "edente" / f"{data.train_dataloader().dataset.samples[0].name}.tif"
    gone.unlink()
    with pytest.raises(DataError, match=gone.name) as caught:
        list(loader)
    assert "Traceback" not in str(caught.value)
    loader.close()


def test_a_missing_set_is_generated_once(write_set: WriteSet, tmp_path: Path) -> None:
    calls = []

    def generate(root: Path) -> None:
        calls.append(root)
        write_set(patients=6, slices=2, root=root)

    for _ in range(2):
        data = _data(tmp_path / "new" / "phantom", generate=generate)
        data.prepare_data()
        data.setup("fit")
    assert calls == [tmp_path / "new" / "phantom"]


def test_a_conversion_is_reported_once(paired_set: Path, caplog: pytest.LogCaptureFixture) -> None:
    import tifffile

    for path in sorted((paired_set / "edente").iterdir()):
        tifffile.imwrite(path, tif.read(path).pixels.astype(np.uint16))
    data = _ready(paired_set)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "images converted to float32: 18 of uint16."
    ]
    assert next(iter(data.train_dataloader()))["target"].dtype == torch.float32


def test_links_out_of_the_root_must_be_allowed(paired_set: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in ("dente", "edente"):
        (linked / folder).symlink_to(paired_set / folder)
    with pytest.raises(DataError, match=r"lead out of the data root.*data\.allow_links=true"):
        _ready(linked)
    assert _ready(linked, allow_links=True).split_counts() == _ready(paired_set).split_counts()


@pytest.mark.parametrize("cache", [True, False])
def test_background_that_is_not_0_is_reported_once(
    paired_set: Path, caplog: pytest.LogCaptureFixture, cache: bool
) -> None:
    _ready(paired_set, cache=cache)
    assert not caplog.records
    first, second = sorted((paired_set / "dente").iterdir())[:2]
    generator = np.random.default_rng(0)
    for path, background in ((first, -1024.0), (second, generator.normal(0, 1, (32, 32)))):
        pixels = tif.read(path).pixels
        tif.write(path, np.where(pixels == 0, background, pixels), 0.15)
    data = _ready(paired_set, cache=cache, num_workers=0)
    data.prepare_data()
    (record,) = caplog.records
    total = 36 if cache else 16
    assert f"2 of {total} images have a background that is not 0" in record.getMessage()
    assert f"dente/{first.name}: -1024.0, dente/{second.name}: noise" in record.getMessage()
    assert "Set all pixels outside the tissue to 0" in record.getMessage()


def test_fewer_validation_images_than_devices_are_refused(
    paired_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = len(_ready(paired_set, batch_size=1).val_dataloader())
    for devices in (held_out, held_out + 1):
        data = _data(paired_set, batch_size=1)
        data.prepare_data()
        monkeypatch.setattr(data, "rank_and_world_size", lambda devices=devices: (0, devices))
        if devices == held_out:
            data.setup("fit")
            continue
        with pytest.raises(DataError, match=f"only {held_out} validation images for {devices} devices"):
            data.setup("fit")
