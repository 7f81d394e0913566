"""Measurements are interleaved, in proportion to the steps, and summarized by medians."""

from collections.abc import Callable

import pytest
import torch

from pti.benchmark.comparison import Comparison, Measurement, Peak, Record, Side, Work, quartiles, significant

CPU = torch.device("cpu")


def measure(comparison: Comparison, repeats: int = 3) -> list[Record]:
    measurement = Measurement(comparison, repeats, CPU, lambda side, work: Peak(len(side.name)))
    for task in measurement.tasks():
        task()
    return measurement.records({"float32": 1e9})


def side(name: str, run: Callable[[], object]) -> Side:
    return Side(name, lambda: Work(run))


def test_sides_are_interleaved_after_a_warm_up():
    order: list[str] = []
    plain, ours = (side(name, lambda name=name: order.append(name)) for name in ("plain", "ours"))
    records = measure(Comparison("data", "work", 10, [ours], plain))
    assert order == ["plain", "ours"] * 4
    assert [(record.side, record.is_plain, record.n) for record in records] == [
        ("plain", True, 3),
        ("ours", False, 3),
    ]
    assert records[0].times_faster == 1


def test_a_run_may_say_which_seconds_count():
    comparison = Comparison("data", "work", 10, [side("ours", lambda: 0.5)], side("plain", lambda: 2.0))
    plain, ours = measure(comparison)
    assert (plain.ms, plain.per_s, ours.ms, ours.per_s) == (200, 5, 50, 20)
    assert ours.times_faster == 4
    assert ours.times_faster_quartiles == (4, 4)
    assert (ours.peak_process_mb, ours.peak_gpu_mb, ours.gflop) == (4, None, None)


def test_the_cost_of_all_steps_follows_from_that_of_the_first():
    encoding, step = 3.0, 2.0
    work = Work(lambda: encoding + 5 * step, lambda: encoding + step, timed_steps=5, steps=1000)
    assert work.measure(lambda run: float(str(run()))) == encoding + 1000 * step


def test_the_whole_work_never_costs_less_than_its_part():
    work = Work(lambda: 1.0, lambda: 1.5, timed_steps=2, steps=1000)  # steps take less than the timer's noise
    assert work.measure(lambda run: float(str(run()))) == 1.0


def test_flops_of_an_item_and_their_share_of_the_matrix_products():
    one = torch.ones(100, 100)

    def run() -> float:
        _ = one @ one
        return 0.01

    (record,) = measure(Comparison("vae", "work", 4, [side("ours", run)], None, counts_flops=True))
    assert record.gflop == pytest.approx(2 * 100**3 / 4 / 1e9)
    assert record.matmul_share == pytest.approx(2 * 100**3 / 0.01 / 1e9)
    assert record.times_faster is None


def test_what_a_run_prints_is_hidden_unless_it_fails(capsys: pytest.CaptureFixture[str]):
    measure(Comparison("data", "work", 1, [side("ours", lambda: print("loud"))], None))
    assert capsys.readouterr() == ("", "")

    def fail() -> None:
        print("what happened")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        measure(Comparison("data", "work", 1, [side("ours", fail)], None))
    assert "what happened" in capsys.readouterr().err


def test_errors_are_measured_once_where_the_truth_is_known():
    calls: list[int] = []

    def error() -> float:
        calls.append(1)
        return 7.0

    known = Side("ours", lambda: Work(lambda: None, error=error))
    assert measure(Comparison("translate", "work", 1, [known], None))[0].error is None
    assert measure(Comparison("translate", "work", 1, [known], None, has_truth=True))[0].error == 7
    assert len(calls) == 1


def test_quartiles_of_few_values():
    assert quartiles([2.0]) == (2, 2)
    assert quartiles([1.0, 2.0, 3.0]) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0, "0"), (0.012345, "0.0123"), (9.876, "9.88"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float | None, text: str):
    assert significant(value) == text
