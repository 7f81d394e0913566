"""Variables of SLURM and torchrun that do not fit the run."""

import pytest

from helpers.forks import run
from helpers.training_setup import arguments
from pti.common.errors import UsageError
from pti.train.devices import check_environment, started_from_outside

STEP = {
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "0",
}


def set_all(monkeypatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changes", "trainer", "message"),
    [
        ({"SLURM_STEP_ID": None}, {}, r"SLURM_NTASKS=4.*not started by srun.*srun python.*--ntasks=1"),
        ({"SLURM_NTASKS_PER_NODE": None}, {}, r"--ntasks-per-node"),
        ({"SLURM_NTASKS": "abc"}, {}, r"SLURM_NTASKS=abc: expected a whole number.*unset SLURM_NTASKS"),
        ({"SLURM_PROCID": "x"}, {}, r"SLURM_PROCID=x"),
        ({"RANK": ""}, {}, r"RANK="),
        (
            {},
            {"devices": 1},
            r"trainer\.devices=1: SLURM's tasks per node: 4, nodes: 1.*Set trainer\.devices=4",
        ),
        ({"SLURM_NNODES": "2"}, {"devices": 4}, r"Set \+trainer\.num_nodes=2"),
    ],
)
def test_variables_that_do_not_fit(monkeypatch, changes, trainer, message):
    set_all(monkeypatch, {name: value for name, value in {**STEP, **changes}.items() if value is not None})
    with pytest.raises(UsageError, match=message):
        check_environment(trainer)


@pytest.mark.parametrize("trainer", [{}, {"devices": "auto"}, {"devices": 4, "num_nodes": 1}])
def test_a_step_of_srun(monkeypatch, trainer):
    set_all(monkeypatch, STEP)
    check_environment(trainer)
    assert started_from_outside()


def test_an_interactive_job_is_one_process(monkeypatch):
    set_all(monkeypatch, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"})
    check_environment({"devices": 1})
    assert not started_from_outside()


@pytest.mark.slow
@pytest.mark.parametrize("tasks", ["4", "abc"])
def test_the_command_ends_with_one_sentence(root, tmp_path, monkeypatch, tasks):
    monkeypatch.setenv("SLURM_NTASKS", tasks)
    code, output = run(tmp_path, *arguments(root))
    assert code == 2, output
    assert output.startswith(f"Error: SLURM_NTASKS={tasks}")
    assert len(output.splitlines()) == 1


@pytest.mark.slow
def test_a_job_with_one_task_trains(root, tmp_path, monkeypatch):
    set_all(monkeypatch, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"})
    code, output = run(tmp_path, *arguments(root, "trainer.max_epochs=1"))
    assert code == 0, output
