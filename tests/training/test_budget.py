"""Budgets: how they are written, when a run stops, and that the same command goes on to the same numbers."""

import time

import pytest
from conftest import small_run
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings.errors import UsageError
from identity_mappings.results import records
from identity_mappings.training import budget, checkpoint, train, train_all


@pytest.mark.parametrize("text, seconds", [("25m", 1500), ("1h30m", 5400), ("90s", 90), ("2h", 7200), ("1h5s", 3605)])
def test_budgets_as_they_are_written(text, seconds):
    assert budget.seconds(text) == seconds


@given(st.text(max_size=8) | st.sampled_from(["", "0m", "25", "m", "-5m", "1.5h", "25 m", "30s1m", "²m", "٣m", "nan"]))
def test_anything_else_is_one_line(text):
    try:
        assert budget.seconds(text) > 0
    except UsageError as error:
        assert "as 25m, 1h30m or 90s" in str(error)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for `clock[0] += seconds`."""
    now = [1000.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(budget.Deadline, "longest_start", budget.START)
    return now


def test_a_run_stops_two_of_its_longest_iterations_before_the_end(clock):
    deadline = budget.Deadline(until=1100.0)
    took = [1, 1, 20, 1] + [1] * 200  # the third has an evaluation
    for seconds in [3, *took]:
        clock[0] += seconds
        if deadline.near():
            break
    assert clock[0] == 1100 - budget.LEAVE - 2 * 20


def test_no_run_starts_that_cannot_come_to_an_iteration(clock):
    assert budget.Deadline(None).leaves_a_start
    assert budget.Deadline(1000 + budget.START + budget.LEAVE + 1).leaves_a_start
    assert not budget.Deadline(1000 + budget.START + budget.LEAVE - 1).leaves_a_start
    slow = budget.Deadline(5000.0)
    clock[0] += 60  # this machine compiles for a minute
    assert not slow.near()
    assert not budget.Deadline(clock[0] + 50).leaves_a_start


def test_a_run_within_a_budget_ends_with_the_numbers_of_the_run_alone(tmp_path, monkeypatch):
    """As many budgets as it takes, each of a few iterations."""
    run = small_run(1, "original", iterations=30)
    monkeypatch.setattr(budget, "LEAVE", 0.0)
    monkeypatch.setattr(budget.Deadline, "longest_start", 0.0)
    near, real = [], budget.Deadline.near
    monkeypatch.setattr(budget.Deadline, "near", lambda self: real(self) or near.append(1) or len(near) % 7 == 0)
    began = []
    for _ in range(10):
        record = train(run, results=tmp_path / "parts", threads=1, until=time.monotonic() + 60)
        if record:
            break
        began.append(checkpoint.read(run, "fp32", "cpu", tmp_path / "parts")["state"]["iteration"])
    monkeypatch.undo()
    assert began == [7, 14, 21, 28]
    assert records.numbers(record) == records.numbers(train(run, results=tmp_path / "whole", threads=1))


def test_a_budget_that_is_spent_starts_nothing(run, tmp_path):
    outcomes = train_all([run], results=tmp_path, until=time.monotonic())
    assert outcomes == {run: None}
    assert not list(tmp_path.rglob("seed-*"))


def test_the_pace_tells_what_is_left():
    runs = [small_run(1, "original", iterations=500, seed=seed) for seed in range(3)]
    heard = []
    pace = budget.Pace(heard.append)
    assert pace.left(runs) is None

    def event(run, iteration, seconds, kind="step"):
        pace({"kind": kind, "run": run.name, "iteration": iteration, "iterations": 500, "seconds": seconds})

    event(runs[0], 100, 50.0, "start")  # gone on from a checkpoint
    event(runs[0], 300, 150.0)
    assert pace.left(runs) == pytest.approx(0.5 * (200 + 500 + 500))
    event(runs[1], 0, 0.0, "start")
    event(runs[1], 10, 20.0, "entry")
    assert pace.left(runs[:2]) == pytest.approx(0.5 * 200 + 2.0 * 490)
    assert len(heard) == 4
    deeper = small_run(1, "original", depth=14, iterations=500)
    ratio = deeper.multiply_adds / runs[0].multiply_adds
    assert pace.left([runs[0], deeper]) == pytest.approx(0.5 * 200 + 0.5 * ratio * 500) and ratio > 1.5
