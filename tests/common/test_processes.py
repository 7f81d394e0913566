"""Worker processes: results in order, clear errors, no process left behind."""

import math
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pti.common.errors import DataError
from pti.common.processes import map_in_processes, usable_cpus, wait_asleep
from pti.data import tif


def test_results_come_in_order():
    jobs = list(range(100))
    assert list(map_in_processes(math.sqrt, jobs, "Roots", workers=2)) == [math.sqrt(job) for job in jobs]


def test_few_jobs_run_in_this_process():
    assert set(map_in_processes(_own_number, [None] * 5, "Numbers", workers=2)) == {os.getpid()}
    assert os.getpid() not in set(
        map_in_processes(_own_number, [None] * 5, "Numbers", workers=2, min_parallel=5)
    )
    assert set(map_in_processes(_own_number, [None] * 100, "Numbers", workers=1)) == {os.getpid()}


def _own_number(job: None) -> int:
    return os.getpid()


def test_an_error_keeps_its_type_and_message(tmp_path):
    missing = [tmp_path / f"{number}.tif" for number in range(70)]
    errors = []
    for workers in (1, 2):
        with pytest.raises(DataError) as error:
            list(map_in_processes(tif.read, missing, "Reading", workers=workers))
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]


def test_a_killed_worker_is_reported():
    with pytest.raises(DataError, match=r"Counting: one of the 2 worker processes was killed.*: wait\."):
        list(map_in_processes(os._exit, [9] * 70, "Counting", workers=2, fix="wait"))


UNGUARDED = (
    "import math\n"
    "from pti.common.processes import map_in_processes\n"
    "print(sum(map_in_processes(math.sqrt, [4.0] * 100, 'Roots', workers=2)))\n"
)


@pytest.mark.parametrize("from_file", [True, False])
def test_the_program_needs_no_guard_and_no_file(tmp_path, from_file):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, str(script) if from_file else "-"]
    done = subprocess.run(command, input=UNGUARDED, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "200.0\n", "")


def test_threads_wait_asleep_unless_the_user_wants_otherwise(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


FAULTS = """
import resource, subprocess, sys
import numpy as np
from pti.common.processes import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(2**20) for _ in range(12)]  # 8 MB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if len(sys.argv) == 1:
    print(faults())
    keep_freed_memory()
    faults()
    print(faults(), flush=True)
    subprocess.run([sys.executable, __file__, "worker"])
else:
    faults()
    print(faults())
"""
"""Print the page faults of repeated work: by default, with freed memory kept, and in a child process."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_freed_memory_is_used_again_unless_the_user_wants_otherwise(tmp_path, variables, kept):
    script = tmp_path / "script.py"
    script.write_text(FAULTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, script], env=environment | variables, capture_output=True, text=True
    )
    default, here, worker = map(int, done.stdout.split())
    assert default > 1000
    assert [count < default / 10 for count in (here, worker)] == [kept, kept]


def test_cores():
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find processes")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_behind(tmp_path, end):
    program = (
        "import signal, time\n"
        "from pti.common.processes import map_in_processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    for _ in map_in_processes(time.sleep, [0.05] * 4000, 'Sleeping', workers=2):\n"
        "        print('begun', flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        assert len(_processes_in(tmp_path)) > 2
        if end is signal.SIGINT:  # a terminal sends it to all processes
            os.killpg(process.pid, end)
        else:
            process.send_signal(end)
        process.wait(20)
        if end is signal.SIGINT:
            assert process.stdout.read().endswith(b"interrupted\n")
            assert process.stderr.read() == b""
    until = time.monotonic() + 10
    while (left := _processes_in(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def _processes_in(folder: Path) -> list[int]:
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = (entry / "cwd").resolve() == folder.resolve()
            except OSError:  # it has ended, or belongs to another user
                continue
            if inside:
                processes.append(int(entry.name))
    return processes
