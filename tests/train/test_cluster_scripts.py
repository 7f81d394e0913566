"""The scripts in ``conf/cluster`` start the processes they say, and continue their run."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.fake_slurm import FakeSlurm
from helpers.second_stage_setup import arguments as second_stage
from helpers.second_stage_setup import configuration, trained
from helpers.training_setup import arguments, trouble
from helpers.training_setup import environment as training_environment
from pti.common.conf_dir import CONF_DIR
from pti.runs.checkpoint import read

SCRIPTS = CONF_DIR / "cluster"
SRUN = """#!/usr/bin/env bash
# One process for each task, with the variables that SLURM sets.
pids=()
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_STEP_ID=0 SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
    pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit $code
"""


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a script: its ``python`` is this one, and ``srun`` starts its tasks here."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    (binaries / "srun").write_text(SRUN)
    (binaries / "srun").chmod(0o755)
    if not (binaries / "python").exists():
        (binaries / "python").symlink_to(sys.executable)
    path = f"{Path(sys.executable).parent}{os.pathsep}{binaries}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}


def start(script: str, folder: Path, overrides: list[str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(SCRIPTS / script), *overrides],
        cwd=folder,
        env=environment(folder, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> str:
    outputs = [process.communicate(timeout=270)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs[0]


def devices(port: int) -> dict[str, str]:
    return {"DEVICES": "2", "PORT": str(port)}


def slurm_job(script: str, **variables: str) -> dict[str, str]:
    """The variables of a job that the script's own options describe, with two tasks on a node at most."""
    tasks = re.search(r"--ntasks-per-node=", (SCRIPTS / script).read_text())
    count = "2" if tasks else "1"
    return {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "pti", "SLURM_NTASKS": count, "SLURM_NNODES": "1"} | (
        {"SLURM_NTASKS_PER_NODE": count} | variables
    )


@pytest.mark.slow
def test_torchrun_trains_on_all_devices_and_continues(root, tmp_path, free_port):
    settings = arguments(root, "trainer=ddp_cpu", "output_dir=run")
    for epochs in (1, 2):
        run = start(
            "torchrun.sh", tmp_path, [*settings, f"trainer.max_epochs={epochs}"], **devices(free_port)
        )
        finish(run)
        last = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
        assert (last["world_size"], last["epoch"]) == (2, epochs - 1)


@pytest.mark.slow
def test_torchrun_trains_on_several_nodes(root, tmp_path, free_port):
    settings = arguments(root, "trainer=ddp_cpu", "trainer.max_epochs=1", "output_dir=run")
    settings = [text.replace("fractions=[0.6,0.2,0.2]", "fractions=[0.5,0.4,0.1]") for text in settings]
    settings.append("data.batch_size=2")
    ranks = [
        start("torchrun.sh", tmp_path, settings, NODES="2", NODE_RANK=rank, **devices(free_port))
        for rank in "01"
    ]
    finish(*ranks)
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["world_size"] == 4


@pytest.mark.slow
def test_nodes_cache_latents_on_their_own_disks(root, link, tmp_path, free_port):
    settings = [link, "trainer.max_epochs=1", "data.batch_size=1", "data/augmentation=mild", "trust_images=0"]
    settings.append("data.fractions=[0.5,0.4,0.1]")
    trained(
        configuration(root, tmp_path / "before", *settings, f"data.cache_dir='{tmp_path}/node 0'"),
        tmp_path / "before",
    )
    nodes = [
        start(
            "torchrun.sh",
            tmp_path,
            [
                *second_stage(
                    root, *settings, "trainer=ddp_cpu", "output_dir=run", f"data.cache_dir=node {rank}"
                )
            ],
            NODES="2",
            NODE_RANK=rank,
            **devices(free_port),
        )
        for rank in "01"
    ]
    finish(*nodes)
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["world_size"] == 4
    (complete,), (new,) = (list(tmp_path.glob(f"node {rank}/latents/*/view_*.npy")) for rank in "01")
    assert complete.stat().st_mtime < (tmp_path / "run" / "config.yaml").stat().st_mtime
    np.testing.assert_allclose(np.load(new), np.load(complete), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_nodes_that_share_a_disk_write_different_latent_caches(root, link, tmp_path, free_port):
    settings = [link, "trainer.max_epochs=1", "data.batch_size=1", "data/augmentation=mild", "trust_images=0"]
    settings += ["data.fractions=[0.5,0.4,0.1]", "trainer=ddp_cpu", "output_dir=run", "data.cache_dir=cache"]
    words = second_stage(root, *settings)
    nodes = [
        start("torchrun.sh", tmp_path, words, NODES="2", NODE_RANK=rank, **devices(free_port))
        for rank in "01"
    ]
    finish(*nodes)
    one, other = tmp_path.glob("cache/latents/*/view_*.npy")
    np.testing.assert_allclose(np.load(one), np.load(other), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_slurm_job_trains_in_its_folder_and_ends_at_once_when_it_is_finished(root, tmp_path, free_port):
    settings = arguments(root, "trainer=ddp_cpu", "trainer.max_epochs=1")
    job = slurm_job("slurm.sbatch", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port))
    finish(start("slurm.sbatch", tmp_path, settings, **job))
    (last,) = tmp_path.glob("outputs/*/job_77/checkpoints/last.ckpt")
    assert read(last)["world_size"] == 2
    again = start("slurm.sbatch", tmp_path, settings, **job, SLURM_RESTART_COUNT="1")
    assert "is finished; nothing is left to train" in finish(again)


@pytest.mark.slow
def test_preempted_tasks_of_the_array_continue_their_folds(root, tmp_path):
    slurm = FakeSlurm(tmp_path / "slurm")
    preempted = trouble("on_train_batch_start", "SIGUSR1", call=8)
    settings = [
        text
        for text in arguments(root, "trainer.max_epochs=2", preempted)
        if not text.startswith("data.fractions")
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{slurm.path}"
    subprocess.run(
        ["sbatch", "--array=0-1", str(SCRIPTS / "folds.sbatch"), *settings],
        cwd=tmp_path,
        env=training_environment(PATH=path),
        check=True,
    )
    deadline = time.monotonic() + 280
    while set(slurm.states.values()) & {"PENDING", "RUNNING"}:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    logs = "".join(path.read_text() for path in slurm.folder.glob("log_*"))
    assert slurm.states == {"77_0": "COMPLETED", "77_1": "COMPLETED"}, logs
    assert sorted(slurm.requeued) == ["77_0", "77_1"]
    assert logs.count("resumes ") == 2
    folds = {
        path.parents[1].name: (read(path)["config"]["data"]["fold"], read(path)["epoch"])
        for path in tmp_path.glob("outputs/*/job_77_*/checkpoints/last.ckpt")
    }
    assert folds == {"job_77_0": (0, 1), "job_77_1": (1, 1)}
