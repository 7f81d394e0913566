"""Sweeps: folders of jobs; skipped, resumed and repeated jobs; the table and the page at the end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import numpy as np
import pytest

from pti.cli.command import command
from pti.common.errors import DataError, UsageError
from pti.runs.lock import exclusive
from pti.runs.summary import write_summary
from pti.sweep.page import SamePatients, print_report, write_report
from pti.sweep.plan import job_name, plan_sweep
from pti.sweep.record import JobResult, PlannedJob, Sweep, data_state, load_sweep

SCRIPT = """
import signal, sys
from pathlib import Path
from pti.cli import command
from pti.common import conf_dir
conf_dir.CONF_DIR = Path(sys.argv.pop(1))
sys.path.insert(0, sys.argv.pop(1))
from sweep.test_sweep import toy
command.command("toy")(toy)()
"""


def toy(config, output_dir):
    """Act as a verb that fails, is interrupted or killed if the file ``broken`` says so."""
    print(f"runs weight={config.weight} seed={config.seed} from {config.ckpt_path}")
    broken, last = Path("broken"), output_dir / "checkpoints" / "last.ckpt"
    if config.weight == 2 and broken.exists():
        if broken.read_text() == "bad":
            raise DataError("file.tif: found nothing, expected an image. Restore it.")
        last.parent.mkdir()
        last.write_text("weights")
        if broken.read_text() == "ctrl-c":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGKILL)
    last.unlink(missing_ok=True)
    metrics = {"val/l1": 0.1 * config.weight, "val/kl": 100.0 / config.weight}
    write_summary(output_dir, command="toy", metrics=metrics, artefacts={})


class Done(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    conf = tmp_path / "conf"
    repository = Path(__file__).parents[2] / "conf" / "hydra"
    for path in repository.rglob("*.yaml"):
        copy = conf / "hydra" / path.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (conf / "toy.yaml").write_text(
        dedent("""
        defaults: [hydra: default, _self_]
        weight: 1
        seed: 0
        ckpt_path: null
        new_sweep: false
        data: {root: data}
        output_dir: outputs/toy/${now:%Y-%m-%d}_${now:%H-%M-%S}
        """)
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tif").write_text("image")
    monkeypatch.setattr("pti.common.conf_dir.CONF_DIR", conf)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> Done:
        multirun = [] if "-m" in arguments else ["-m"]
        monkeypatch.setattr(sys, "argv", ["toy", *multirun, *arguments])
        with pytest.raises(SystemExit) as ended:
            command("toy")(toy)()
        done = Done(*capsys.readouterr())
        assert ended.value.code == code, done.stdout + done.stderr
        return done

    return call


def sweeps(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outputs" / "toy" / "sweeps").iterdir())


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_for_each_job_a_table_and_a_page(run, tmp_path):
    done = run("weight=1,2", "seed=7", "ckpt_path=null")
    (folder,) = sweeps(tmp_path)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"weight-1", "weight-2"}
    assert [(row["weight"], row["status"], row["val/l1"], row["path"]) for row in rows(folder)] == [
        ("1", "finished", "0.1", "weight-1"),
        ("2", "finished", "0.2", "weight-2"),
    ]
    assert "<svg" in (folder / "sweep.html").read_text()
    assert "sweep.html" in done.stdout


@pytest.mark.parametrize("arguments", [("weight=1,2", "seed=7", "-m"), ("seed=7", "-m", "weight=1,2")])
@pytest.mark.usefixtures("without_plots")
def test_the_switch_may_be_anywhere(run, arguments):
    done = run(*arguments)
    assert done.stdout.count("seed=7") == 2


@pytest.mark.usefixtures("without_plots")
def test_the_same_command_again_runs_nothing(run, tmp_path):
    run("weight=1,2")
    done = run("weight=1,2")
    assert "all 2 jobs were finished earlier" in done.stdout
    assert "runs" not in done.stdout
    assert done.stdout.count("skipped") == 2
    assert "0.1" in done.stdout
    assert len(sweeps(tmp_path)) == 1


@pytest.mark.usefixtures("without_plots")
def test_further_values_join_other_settings_do_not(run, tmp_path):
    run("weight=1,2")
    done = run("weight=1,2,3")
    assert done.stdout.count("runs") == 1
    assert "runs weight=3" in done.stdout
    assert len(sweeps(tmp_path)) == 1
    assert run("weight=1,2", "seed=1").stdout.count("runs") == 2
    assert run("weight=1,2,3", "new_sweep=true").stdout.count("runs") == 3
    assert len(sweeps(tmp_path)) == 3


def test_a_failed_job_is_shown_with_its_reason_and_run_again(run, tmp_path):
    (tmp_path / "broken").write_text("bad")
    done = run("weight=1,2,3", code=1)
    (folder,) = sweeps(tmp_path)
    assert [row["status"] for row in rows(folder)] == ["finished", "failed", "finished"]
    assert "expected an image" in rows(folder)[1]["reason"]
    assert "expected an image" in (folder / "sweep.html").read_text()
    assert "weight-2 failed: file.tif" in done.stdout
    (tmp_path / "broken").unlink()
    done = run("weight=1,2,3")
    assert done.stdout.count("runs") == 1
    assert [row["status"] for row in rows(folder)] == ["finished"] * 3


def assert_continued(done: Done, tmp_path: Path) -> None:
    (folder,) = sweeps(tmp_path)
    last = folder.relative_to(tmp_path) / "weight-2" / "checkpoints" / "last.ckpt"
    assert "runs weight=1" not in done.stdout
    assert f"runs weight=2 seed=0 from {last}" in done.stdout
    assert "runs weight=3 seed=0 from None" in done.stdout
    assert [row["status"] for row in rows(folder)] == ["finished"] * 3


@pytest.mark.usefixtures("without_plots")
def test_ctrl_c_ends_a_sweep_which_continues_from_the_checkpoint(run, tmp_path):
    (tmp_path / "broken").write_text("ctrl-c")
    done = run("weight=1,2,3", code=130)
    assert "runs weight=3" not in done.stdout
    assert "1 of 3 jobs finished. The same command continues it" in done.stderr
    (tmp_path / "broken").unlink()
    assert_continued(run("weight=1,2,3"), tmp_path)


@pytest.mark.usefixtures("without_plots")
def test_a_killed_sweep_continues_from_the_checkpoint(run, tmp_path):
    (tmp_path / "broken").write_text("kill")
    program = [sys.executable, "-c", SCRIPT, str(tmp_path / "conf"), str(Path(__file__).parents[1])]
    done = subprocess.run([*program, "-m", "weight=1,2,3"], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "broken").unlink()
    assert_continued(run("weight=1,2,3"), tmp_path)


@pytest.mark.usefixtures("without_plots")
def test_changed_data_begin_a_new_sweep(run, tmp_path):
    run("weight=1,2")
    (tmp_path / "data" / "b.tif").write_text("image")
    assert run("weight=1,2").stdout.count("runs") == 2
    assert len(sweeps(tmp_path)) == 2


@pytest.mark.usefixtures("without_plots")
def test_a_chosen_output_dir_holds_the_sweep_and_no_other(run, tmp_path):
    run("weight=1,2", "output_dir=mine")
    assert (tmp_path / "mine" / "weight-1" / "summary.json").is_file()
    assert "runs" not in run("weight=1,2", "output_dir=mine").stdout
    done = run("weight=1,2", "seed=1", "output_dir=mine", code=2)
    assert "found another sweep there" in done.stderr
    done = run("weight=1,2", "output_dir=mine,yours", code=2)
    assert "expected one folder" in done.stderr


def test_two_keys_at_once(run, tmp_path):
    run("weight=1,2", "seed=1,2")
    (folder,) = sweeps(tmp_path)
    assert (folder / "weight-2+seed-1" / "summary.json").is_file()
    assert len(rows(folder)) == 4
    assert "2, seed 1" in (folder / "sweep.html").read_text()


@pytest.mark.parametrize(
    "overrides",
    [["a=/data/x"], ["a=[1,2,3]", "b=" + "x" * 300], ["a='ü:*?'"], ["a=C:\\x"], ["a=1 2"]],
)
def test_names_are_valid_short_and_apart(overrides):
    name = job_name(overrides)
    assert len(name) <= 100
    assert not set(name) & set('/\\:*?"<>| []=,')
    assert name != job_name([*overrides[:-1], overrides[-1] + "2"])


def test_names_need_no_quotes_on_a_command_line():
    assert job_name(["model.kl_weight=1e-07", "seed=1"]) == "model.kl_weight-1e-7+seed-1"


def planned(*values: str) -> dict[str, PlannedJob]:
    return {f"a-{value}": PlannedJob([f"a={value}"], f"hash of {value}") for value in values}


def finish(sweep: Sweep, name: str) -> None:
    def work() -> None:
        (sweep.folder / name).mkdir(exist_ok=True)
        (sweep.folder / name / "summary.json").write_text(
            '{"status": "finished", "figures": {"x": {"y": 1}}}'
        )

    sweep.run(name, work)


def test_the_newest_sweep_that_fits_is_taken(tmp_path):
    first = plan_sweep("toy", planned("1", "2"), tmp_path)
    first.save()
    second = plan_sweep("toy", planned("1", "2"), tmp_path, new=True)
    second.save()
    assert first.folder != second.folder
    assert plan_sweep("toy", planned("1", "2"), tmp_path).folder == second.folder
    assert plan_sweep("other", planned("1", "2"), tmp_path).folder not in (first.folder, second.folder)
    assert plan_sweep("toy", planned("1"), tmp_path).folder not in (first.folder, second.folder)
    with pytest.raises(UsageError, match="another sweep"):
        plan_sweep("toy", planned("3"), first.folder, chosen=True)


def test_two_sweeps_that_begin_in_the_same_second_have_two_folders(tmp_path):
    sweeps = [plan_sweep("toy", planned("1", "2"), tmp_path) for _ in range(4)]  # none is saved yet
    assert len({sweep.folder for sweep in sweeps}) == 4
    assert all(sweep.folder.is_dir() for sweep in sweeps)


@pytest.mark.usefixtures("without_plots")
def test_one_job_is_not_1_jobs(run):
    assert ": 1 job." in run("-m", "weight=1").stdout
    assert "its only job was finished earlier" in run("-m", "weight=1").stdout


def test_results_and_status(tmp_path):
    sweep = plan_sweep("toy", planned("1", "2", "3"), tmp_path)
    sweep.save()
    finish(sweep, "a-1")
    with pytest.raises(RuntimeError):
        sweep.run("a-2", lambda: (_ for _ in ()).throw(RuntimeError("out of luck")))
    loaded = load_sweep(sweep.folder)
    assert loaded is not None
    one, two, three = loaded.results()
    assert (one.status, one.metrics, one.label) == ("finished", {"x/y": 1}, "1")
    assert (two.status, two.reason) == ("failed", "out of luck")
    assert three.status == "waiting"
    assert sweep.run("a-3", lambda: 143) == 143
    assert sweep.status("a-3") == "interrupted"


def test_one_process_at_a_time(run, tmp_path):
    with exclusive(tmp_path / "mine", "held by the test"):
        done = run("weight=1,2", "output_dir=mine", code=2)
    assert "mine: this sweep is being run by another process" in done.stderr
    assert "runs" not in done.stdout


def test_data_state_sees_any_change(tmp_path):
    assert data_state([str(tmp_path)]) is None
    (tmp_path / "a.tif").write_text("1")
    before = data_state([str(tmp_path)])
    (tmp_path / "notes.txt").write_text("not data")
    assert data_state([str(tmp_path)]) == before
    os.utime(tmp_path / "a.tif", (time.time(), time.time() + 5))
    assert data_state([str(tmp_path)]) != before


def test_the_page_is_self_contained(tmp_path):
    metrics = {"best/val/l1": 0.1, "last/val/l1": 0.3, "best/val/kl": 50.0}
    results = [
        JobResult("a=<1>", {"a": "<1>"}, "finished", "", 60.0, metrics, tmp_path / "1"),
        JobResult("a=2", {"a": "2"}, "failed", "<b>no</b>", 1.0, {}, tmp_path / "2"),
    ]
    image = np.zeros((16, 16), np.float32)
    image[4:12, 4:12] = 900
    pictures = SamePatients(["100"], [image], {"a=<1>": [image * 0.9]}, "Held out.")
    page = write_report(tmp_path, results, "A sweep", pictures)["page"].read_text()
    assert "<1>" not in page
    assert "<b>no</b>" not in page
    assert "0.1" in page
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http://www.w3.org", "")
    assert json.dumps(rows(tmp_path)[1]["reason"]) == '"<b>no</b>"'


def test_a_collapsed_job_is_marked_and_is_never_the_best(tmp_path, capsys):
    jobs = {name: PlannedJob([f"weight={name}"], name) for name in ("1", "2", "3")}
    sweep = Sweep(tmp_path, "toy", jobs)

    def train(name: str, error: float, collapsed: str) -> None:
        write_summary(
            tmp_path / name,
            command="toy",
            metrics={"val/l1": error, "val/kl": 1.0},
            artefacts={},
            collapsed=collapsed,
        )

    for name, error, collapsed in (("1", 0.3, ""), ("2", 0.1, "All alike."), ("3", 0.2, "")):
        sweep.run(name, lambda name=name, error=error, text=collapsed: train(name, error, text))
    results = sweep.results()
    artefacts = write_report(tmp_path, results, "A sweep", None)
    assert [(row["status"], row["reason"]) for row in rows(tmp_path)] == [
        ("finished", ""),
        ("collapsed", "All alike."),
        ("finished", ""),
    ]
    page = artefacts["page"].read_text()
    assert '<td class="best">0.2</td>' in page
    assert "All alike." in page
    print_report(results, artefacts)
    assert "2 collapsed: All alike." in capsys.readouterr().out
