"""Runs that stop, are killed, damaged or diverge, and the numbers that they must end with all the same."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_run

from identity_mappings import UsageError
from identity_mappings.experiments.runs import Run
from identity_mappings.results import records
from identity_mappings.training import checkpoint, state, train, train_all


class Exploding(Run):
    """A run whose rate no network survives."""

    @property
    def recipe(self):
        whole = super().recipe
        return replace(whole, protocol=replace(whole.protocol, learning_rate=1e30))


def after(iterations):
    """A `should_stop` that says yes once, after that many iterations."""
    left = iter([False] * (iterations - 1) + [True])
    return lambda: next(left, False)


def begun(run, results, iterations=7, **choices):
    """Train a run part of the way; returns its checkpoint's path."""
    assert train(run, results=results, threads=1, should_stop=after(iterations), **choices) is None
    return run.checkpoint_path(results)


def alone(run, results, threads=1):
    return records.numbers(train(run, results=results, threads=threads))


@pytest.mark.parametrize(
    "table, id, depth",
    [(1, "original", 8), (1, "dropout", 8), (2, "164-full-pre-activation", 11)],
)
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, table, id, depth):
    run = small_run(table, id, depth, iterations=30)  # the stops lie between the curve's entries, or on one
    expected = alone(run, tmp_path / "whole")
    results = tmp_path / "parts"
    for iterations in (7, 11, 6):
        path = begun(run, results, iterations)
        torch.rand(5)  # what else the process draws is none of the run's business
    assert path.exists() and not run.record_path(results).exists()
    assert alone(run, results) == expected
    assert [p.name for p in run.folder(results).iterdir()] == ["seed-0.json"]


def test_a_run_goes_on_from_a_checkpoint_with_fewer_entries(run, tmp_path, monkeypatch):
    """As runs begun before the curve had twenty points left them: entries are added to those that are there."""
    with monkeypatch.context() as patched:
        patched.setattr(state, "POINTS", 2)
        begun(run, tmp_path, 11)
    assert checkpoint.read(run, "fp32", "cpu", tmp_path)["state"]["curve"]["iteration"] == [10]
    resumed, whole = train(run, results=tmp_path), train(run, results=tmp_path / "whole", threads=1)
    assert resumed["curve"]["iteration"] == [10, *range(12, 21)]
    assert resumed["curve"]["train_loss"][-1] == whole["curve"]["train_loss"][-1]
    assert resumed["test_error"] == whole["test_error"]


def test_a_record_is_not_trained_again(run, tmp_path):
    events = []
    first = train(run, results=tmp_path, threads=1, report=events.append)
    kinds = [event["kind"] for event in events if event["kind"] != "step"]  # a step is told of when time has passed
    assert [kinds[0], kinds[-1]] == ["start", "entry"]
    assert first["curve"]["iteration"] == list(range(1, 21)) and first["status"] == "finished"
    assert 0 <= first["test_error"] == first["curve"]["test_error"][-1] <= 100
    assert train(run, results=tmp_path, report=pytest.fail) == first


def test_a_seed_decides_the_numbers(run, tmp_path):
    def curve(seed, results):
        return alone(replace(run, seed=seed), tmp_path / results)["curve"]

    assert curve(0, "a") == curve(0, "b") != curve(1, "a")


def test_digits_are_learnt(tmp_path):
    run = small_run(2, "110-full-pre-activation", iterations=100)
    assert alone(run, tmp_path)["test_error"] < 30  # chance is 90


def test_checkpoint_of_another_precision_is_refused_and_kept(run, tmp_path):
    path = begun(run, tmp_path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="of another run: expected .*bf16; got .*fp32"):
        train(run, precision="bf16", results=tmp_path)
    assert path.read_bytes() == before


def test_checkpoint_of_another_recipe_is_refused_and_kept(run, tmp_path):
    path = begun(small_run(1, "original", iterations=40), tmp_path)
    target = run.checkpoint_path(tmp_path)
    target.parent.mkdir(parents=True)
    path.rename(target)
    with pytest.raises(UsageError, match="of another run: expected recipe"):
        train(run, results=tmp_path)
    assert target.exists()


def a_bit_flipped(content):
    """One bit of a weight, which only the checksum sees."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def checksum_flipped(content):
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b"no checkpoint", lambda b: b[: len(b) // 2], a_bit_flipped, checksum_flipped],
)
def test_damaged_checkpoint_is_refused_and_kept(run, tmp_path, damage):
    path = begun(run, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="seed-0.checkpoint must be a checkpoint of this library.*move it away"):
        train(run, results=tmp_path)
    assert path.read_bytes() == before


def test_a_checksum_that_does_not_match_is_named(run, tmp_path):
    path = begun(run, tmp_path)
    path.write_bytes(a_bit_flipped(path.read_bytes()))
    with pytest.raises(UsageError, match="its checksum does not match"):
        train(run, results=tmp_path)


def test_checkpoint_of_another_seed_is_refused_and_kept(run, tmp_path):
    other = replace(run, seed=1)
    begun(run, tmp_path).rename(other.checkpoint_path(tmp_path))
    with pytest.raises(UsageError, match="of another run: expected recipe .*, seed 1, fp32; got [0-9a-f]{12}, 0, fp32"):
        train(other, results=tmp_path)
    assert other.checkpoint_path(tmp_path).exists()


def test_diverged_run_is_recorded(tmp_path):
    record = train(small_run(1, "original", cls=Exploding), results=tmp_path, threads=1)
    assert (record["status"], record["test_error"], record["diverged_at"]) == ("diverged", None, 3)
    assert record["curve"]["train_loss"][-1] is None  # the third iteration's, after the first at that rate
    assert None not in record["curve"]["train_loss"][:-1]


def test_processes_give_the_numbers_of_each_run_alone(tmp_path):
    """Three runs at once, one of which diverges and one of which meets a damaged record."""
    good = [small_run(1, "original"), small_run(1, "dropout", seed=1)]
    diverging, damaged = small_run(1, "conv-1x1", cls=Exploding), small_run(1, "shortcut-gating-0")
    path = damaged.record_path(tmp_path / "many")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    runs, events = [diverging, *good, damaged], []
    outcomes = train_all(runs, results=tmp_path / "many", report=events.append)
    assert list(outcomes) == runs
    assert isinstance(outcomes[damaged], UsageError)
    assert outcomes[diverging]["status"] == "diverged"
    assert {event["run"] for event in events} == {run.name for run in (diverging, *good)}
    torch.set_num_threads(2)  # of this process; a run alone in a plan has one all the same
    (outcome,) = train_all(good[:1], results=tmp_path / "one").values()
    torch.set_num_threads(1)
    assert outcome["threads"] == 1
    for run in good:
        assert records.numbers(outcomes[run]) == records.numbers(train(run, results=tmp_path / "one"))


KILLED = """
import sys
from conftest import small_run
from identity_mappings.training import loop
loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SHARE = 0
loop.train(small_run(1, "dropout", iterations=400), results=sys.argv[1], threads=1)
"""


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path):
    run = small_run(1, "dropout", iterations=400)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ | {"PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while not run.checkpoint_path(tmp_path).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert run.checkpoint_path(tmp_path).exists() and not run.record_path(tmp_path).exists()
    assert alone(run, tmp_path) == alone(run, tmp_path / "whole")


def test_unknown_precision(run, tmp_path):
    with pytest.raises(UsageError, match="precision must be one of: .*got 'fp8'"):
        train(run, precision="fp8", results=tmp_path)


@pytest.mark.parametrize("layout", [1, 2])
def test_a_checkpoint_of_an_earlier_layout_is_refused_and_kept(run, tmp_path, monkeypatch, layout):
    monkeypatch.setattr(checkpoint, "LAYOUT", layout)
    path = begun(run, tmp_path)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=f"of layout 3; got layout {layout}, of another release: .*move the file away"):
        train(run, results=tmp_path)
    assert path.exists()
