"""Writing, finding, judging and opening checkpoints."""

import multiprocessing
import os
import pickle
import resource
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pti.common.conf_dir import CONF_DIR
from pti.common.errors import DataError, UsageError
from pti.runs.checkpoint import CheckpointError, check_targets, load, read
from pti.runs.locate import checkpoint_names, fallbacks, resolve, run_dir_of
from pti.train.callbacks.checkpoint_io import AtomicCheckpointIO, require_plain, require_writable


@pytest.fixture
def io() -> AtomicCheckpointIO:
    return AtomicCheckpointIO()


def test_what_was_saved_is_read(io, tmp_path):
    content = {"weights": torch.arange(3), "nested": [1, (2.5, None), {"a": True}]}
    io.save_checkpoint(content, tmp_path / "a.ckpt")
    found = read(tmp_path / "a.ckpt")
    assert torch.equal(found.pop("weights"), content.pop("weights"))
    assert found == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_replaced_file_is_kept(io, tmp_path):
    for step in range(3):
        io.save_checkpoint({"step": step}, tmp_path / "last.ckpt", {"previous": tmp_path / "last-1.ckpt"})
    assert read(tmp_path / "last.ckpt")["step"] == 2
    assert read(tmp_path / "last-1.ckpt")["step"] == 1


@pytest.mark.parametrize("value", [Path("x"), object(), torch.nn.Linear(1, 1)])
def test_what_is_not_plain_is_named(value):
    with pytest.raises(TypeError, match=r"checkpoint\['a'\]\[1\]"):
        require_plain({"a": [0, value]}, "checkpoint")


def _save_forever(folder: Path) -> None:
    weights, step = torch.zeros(300_000), 0
    while True:
        step += 1
        content = {"weights": weights + step, "step": step}
        AtomicCheckpointIO().save_checkpoint(
            content, folder / "last.ckpt", {"previous": folder / "last-1.ckpt"}
        )


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):  # fault 15
    context = multiprocessing.get_context("spawn")
    for kill in range(6):
        process = context.Process(target=_save_forever, args=(tmp_path,))
        process.start()
        while not (tmp_path / "last-1.ckpt").exists():
            time.sleep(0.01)
        time.sleep(0.05 + 0.0137 * kill)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        for name in ("last.ckpt", "last-1.ckpt"):
            content = read(tmp_path / name)
            assert bool((content["weights"] == content["step"]).all())
    require_writable(tmp_path)
    assert not list(tmp_path.glob(".*"))


def _fill_disk(folder: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1}, folder / "last.ckpt")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(DataError, match=r"could not be written.*whole"):
        io.save_checkpoint({"weights": torch.zeros(100_000)}, folder / "last.ckpt")
    os._exit(7)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):  # fault 16
    process = multiprocessing.get_context("spawn").Process(target=_fill_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert read(tmp_path / "last.ckpt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_unwritable_folder_is_noticed(tmp_path):  # fault 17
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"can't be written.*output_dir"):
        require_writable(tmp_path / "file" / "checkpoints")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "half", "empty", "text", "missing"])
def test_damage_is_noticed(io, tmp_path, how):  # fault 23
    path = tmp_path / "a.ckpt"
    io.save_checkpoint({"weights": torch.zeros(10_000)}, path)
    if how == "flipped":
        damage(path)
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "missing":
        path.unlink()
    else:
        path.write_text("" if how == "empty" else "no checkpoint")
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read(path)


class Bomb:
    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self):
        return os.mkdir, (str(self.fuse),)


def test_a_pickle_bomb_is_not_executed(tmp_path):  # fault 41
    fuse = tmp_path / "fuse"
    torch.save({"state_dict": {}, "bomb": Bomb(fuse)}, tmp_path / "zip.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Bomb(fuse)))
    torch.save(Bomb(fuse), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    for name in ("zip.ckpt", "plain.ckpt", "old.ckpt"):
        with pytest.raises(CheckpointError):
            load(tmp_path / name)
        with pytest.raises((pickle.UnpicklingError, CheckpointError)):
            AtomicCheckpointIO().load_checkpoint(tmp_path / name, weights_only=False)
    with pytest.raises(CheckpointError):
        load("https://example.org/model.ckpt")
    with pytest.raises(UsageError):
        resolve("https://example.org/model.ckpt")
    assert not fuse.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "torch.hub.load",
        "builtins.eval",
        "hydra.utils.instantiate",
        "pti.runs.checkpoint.load",
        "pti.data.phantom.make_phantom",
        "torch.nn.functional.torch.load",
        "torch.optim.lr_scheduler.torch.hub.load",
        "pti.modules.adversarial_vae.losses.torch.load",
        "pti.modules.adversarial_vae.AdversarialVAE.load_from_checkpoint",
        "torch.nn.Module.__init__",
        "torch.nnx.Linear",
        "torch.nn",
        "monai.networks.nets.DoesNotExist",
        ["torch.nn.Linear"],
    ],
)
def test_other_targets_are_refused(target):  # fault 42
    for config in ({"_target_": target}, {"a": [{"b": {"_target_": target, "_partial_": True}}]}):
        with pytest.raises(CheckpointError, match=r"x\.ckpt: refused"):
            check_targets(config, "x.ckpt")


def test_other_targets_are_not_even_imported(tmp_path, monkeypatch):  # fault 42
    (tmp_path / "trap_for_imports.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError):
        check_targets({"_target_": "trap_for_imports.anything"}, "x.ckpt")


def test_interpolations_are_refused():
    with pytest.raises(CheckpointError, match="evaluated"):
        check_targets({"_target_": "torch.nn.Linear", "in_features": "${oc.env:HOME}"}, "x.ckpt")


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml")))
def test_the_model_of_every_experiment_is_allowed(experiment):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "data.root=."])
    plain: Any = OmegaConf.to_container(config.model, resolve=True)
    check_targets(plain, "x.ckpt")
    assert plain["_target_"].startswith("pti.modules.")
    with pytest.raises(CheckpointError, match="refused"):  # of the same, with one part exchanged
        check_targets({**plain, "normalization": {"_target_": "os.system"}}, "x.ckpt")


def test_a_checkpoint_of_something_else_is_refused(io, tmp_path):
    io.save_checkpoint({"weights": torch.zeros(3)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"found the keys weights"):
        load(tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w") as archive:
        archive.writestr("hello.txt", "world")
    with pytest.raises(CheckpointError):
        load(tmp_path / "b.ckpt")


def put(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_names_stand_for_the_newest_run(tmp_path):
    put(tmp_path / "vae" / "b" / "checkpoints" / "last.ckpt", age=30)
    newest = put(tmp_path / "vae" / "a" / "checkpoints" / "last.ckpt", age=10)
    other = put(tmp_path / "ldm" / "c" / "checkpoints" / "last.ckpt", age=5)
    best = put(tmp_path / "vae" / "b" / "checkpoints" / "best.ckpt", age=40)
    put(tmp_path / "vae" / "sweeps" / "s" / "seed=1" / "checkpoints" / "last.ckpt", age=0)
    assert resolve("last:vae", tmp_path) == resolve("last", tmp_path, experiment="vae") == newest
    assert resolve("last", tmp_path) == other
    assert resolve("best:vae", tmp_path) == best
    assert resolve(str(best), tmp_path) == best
    assert run_dir_of(newest) == newest.parents[1]
    assert run_dir_of(best) is None
    assert fallbacks(put(best.with_name("last.ckpt"), 0)) == [best]


@pytest.mark.parametrize("name", ["last:vae", "best:ldm", "last", "nowhere.ckpt", "."])
def test_a_checkpoint_that_is_not_there(tmp_path, name):  # fault 37
    (tmp_path / "vae").mkdir()
    with pytest.raises(UsageError):
        resolve(name, tmp_path)


def test_checkpoints_get_telling_names():
    def named(*paths: str) -> list[str]:
        return checkpoint_names([Path(path) for path in paths])

    first, second = "2026-01-02_03-04-05", "2026-01-03_00-00-00"
    runs = [f"/o/{name}/checkpoints" for name in (f"ldm/{first}", f"ldm/{second}", f"reg/{first}")]
    best = [f"{run}/best.ckpt" for run in runs]
    assert named(best[0]) == ["ldm"]
    assert named(best[0], best[2]) == ["ldm", "reg"]
    assert named(best[0], best[1]) == [f"ldm/{first}", f"ldm/{second}"]
    assert named(best[0], f"{runs[0]}/last.ckpt") == [f"ldm/{first}/best", f"ldm/{first}/last"]
    assert named(f"/o/demo/{first}/diffusion/checkpoints/best.ckpt") == ["diffusion"]
    assert named("/downloads/mine.ckpt") == ["mine"]
