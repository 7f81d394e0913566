"""Finding of runs and checkpoints by name."""

import os
import time
from pathlib import Path

import pytest

from pti.common.errors import UsageError
from pti.runs.locate import checkpoint_names, fallbacks, resolve, run_dir_of


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


def test_best_is_never_a_collapsed_run(tmp_path, capsys):
    healthy = put(tmp_path / "vae" / "a" / "checkpoints" / "best.ckpt", age=40)
    collapsed = put(tmp_path / "vae" / "b" / "checkpoints" / "best.ckpt", age=10)
    last = put(collapsed.with_name("last.ckpt"), age=10)
    summary = collapsed.parents[1] / "summary.json"
    summary.write_text('{"collapsed": "All alike."}')
    assert resolve("best:vae", tmp_path) == healthy
    assert "All alike." in capsys.readouterr().err
    assert resolve("last:vae", tmp_path) == last
    assert resolve(str(collapsed), tmp_path) == collapsed
    healthy.unlink()
    with pytest.raises(UsageError, match="All alike"):
        resolve("best:vae", tmp_path)
    summary.write_text('{"collapsed": ""}')
    assert resolve("best:vae", tmp_path) == collapsed


@pytest.mark.parametrize("name", ["last:vae", "best:ldm", "last", "nowhere.ckpt", "."])
def test_a_checkpoint_that_is_not_there(tmp_path, name):
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
