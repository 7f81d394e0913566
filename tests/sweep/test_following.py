"""The command that a sweep names at its end."""

from dataclasses import replace
from pathlib import Path

import pytest

from pti.sweep.following import following_command
from pti.sweep.page import print_report, write_report
from pti.sweep.record import FAILED, FINISHED, JobResult


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Make the results of finished jobs, each with a checkpoint."""
    monkeypatch.chdir(tmp_path)

    def make(key: str, errors: list[float], **metrics: float) -> list[JobResult]:
        results = []
        for number, error in enumerate(errors):
            folder = tmp_path / "sweep" / f"job_{number}"
            (folder / "checkpoints").mkdir(parents=True)
            (folder / "checkpoints" / "best.ckpt").touch()
            values = {"val/l1": error, **metrics}
            results.append(JobResult(folder.name, {key: str(number)}, FINISHED, "", 1.0, values, folder))
        return results

    return make


def following(results: list[JobResult], *arguments: str, command: str = "train") -> str | None:
    return following_command(command, results, Path("sweep"), arguments)[0]


def test_stage_1_continues_with_the_best_job(jobs):
    results = jobs("seed", [0.3, 0.1, 0.2], **{"val/kl": 5.0})
    command, remark = following_command("train", results, Path("sweep"), [])
    assert command == "python -m pti.reconstruct ckpt=sweep/job_1/checkpoints/best.ckpt split=val"
    assert remark == "The lowest val/l1 is that of job_1."


def test_a_sweep_of_the_kl_weight_says_what_the_choice_ignores(jobs):
    results = jobs("model.kl_weight", [0.3, 0.1], **{"val/kl": 5.0})
    remark = following_command("train", results, Path("sweep"), [])[1]
    assert "A smaller KL weight usually lowers val/l1" in remark


@pytest.mark.parametrize(
    ("key", "chosen", "weighs"),
    [("model.kl_weight", True, True), ("seed", True, False), ("data.fold", False, False)],
)
def test_the_page_says_by_which_metric_the_next_command_chooses(jobs, key: str, chosen: bool, weighs: bool):
    results = jobs(key, [0.3, 0.1], **{"val/kl": 5.0})
    page = write_report(Path("sweep").absolute(), results, "title", None)["page"].read_text()
    assert ("takes the job with the lowest val/l1" in page) == chosen
    assert ("choose by both axes" in page) == weighs


@pytest.mark.parametrize(
    ("experiment", "second"),
    [("vae_demo", "ldm_demo"), ("vae_fine", "ldm_fine"), ("vae_attributes", "EXPERIMENT")],
)
def test_folds_of_stage_1_continue_with_those_of_stage_2(jobs, experiment: str, second: str):
    results = jobs("data.fold", [0.3, 0.1], **{"val/kl": 5.0})
    command = following(results, f"experiment={experiment}", "data=phantom", "data.folds=2", "data.fold=0,1")
    expected = "data=phantom data.folds=2 data.fold=0,1 autoencoder_ckpt=sweep"
    assert command == f"python -m pti.train -m experiment={second} {expected}"


def test_stage_2_is_compared_on_the_validation_patients_if_all_jobs_have_the_same(jobs):
    paths = "sweep/job_0/checkpoints/best.ckpt,sweep/job_1/checkpoints/best.ckpt"
    assert following(jobs("seed", [0.3, 0.1])) == f"python -m pti.evaluate 'ckpt=[{paths}]' split=val"


def test_folds_of_stage_2_are_evaluated_one_by_one(jobs):
    paths = "sweep/job_0/checkpoints/best.ckpt,sweep/job_1/checkpoints/best.ckpt"
    assert following(jobs("data.fold", [0.3, 0.1])) == f"python -m pti.evaluate -m ckpt={paths}"


def test_other_sweeps_name_none(jobs):
    results = jobs("pixel_mm", [0.3, 0.1])
    assert following(results, command="measure") is None
    failed = [JobResult("a", {"seed": "1"}, FAILED, "", 1.0, {}, results[0].folder)]
    assert following(failed) is None


def test_metrics_that_a_narrow_terminal_cannot_show_are_named(jobs, capsys, monkeypatch):
    long = {f"width_{name}_mm of conditions": 12.345 for name in ("quarter", "half", "three_quarters")}
    results = [replace(job, metrics={"images": 24, **long}) for job in jobs("pixel_mm", [0.3, 0.1])]
    monkeypatch.setenv("COLUMNS", "50")
    print_report(results, {})
    output = capsys.readouterr().out
    assert max(map(len, output[: output.index("The terminal")].splitlines())) <= 50
    assert "…" not in output
    assert "The terminal is too narrow for width_half_mm of conditions" in output
    monkeypatch.setenv("COLUMNS", "160")
    print_report(results, {})
    assert "too narrow" not in capsys.readouterr().out


def test_the_command_is_the_last_line_and_unfinished_jobs_are_said(jobs, capsys):
    results = jobs("seed", [0.3, 0.1])
    print_report(results, {}, "python -m x", "a remark")
    assert capsys.readouterr().out.rstrip().endswith("a remark\nNext: python -m x")
    failed = JobResult("a", {"seed": "9"}, FAILED, "a reason", 1.0, {}, results[0].folder)
    print_report([*results, failed], {})
    assert "The same command runs the jobs again that are not finished." in capsys.readouterr().out
