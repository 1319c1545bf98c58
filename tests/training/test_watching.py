"""A watched run: the same as an unwatched one, measured when it says, kept as the records are."""

import json
from dataclasses import replace

import pytest
from conftest import ROOT, known, small_run
from test_training import Exploding

from identity_mappings import UsageError, commands
from identity_mappings.analysis.measurements import measure
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run
from identity_mappings.results import records, soundness, watching
from identity_mappings.training import train
from identity_mappings.training.state import State
from identity_mappings.training.watched import moments


@pytest.mark.parametrize(
    "iterations, expected", [(150, [0, 2, 9, 37, 150]), (20, [0, 1, 5, 20]), (64_000, [0, 1000, 4000, 16_000, 64_000])]
)
def test_moments_of_a_schedule(iterations, expected):
    assert moments(iterations) == expected


def watched(*arguments, **options):
    return replace(small_run(*arguments, **options), watched=True)


@pytest.mark.parametrize("table, id, depth", [(2, "164-original", 11), (1, "dropout", 8)])
def test_a_watched_run_is_the_run(tmp_path, table, id, depth):
    run = watched(table, id, depth)
    record = train(run, threads=1, results=tmp_path)
    alone = train(replace(run, watched=False), results=tmp_path, threads=1)
    assert records.numbers(record) == records.numbers(alone)
    assert record["units"] and "units" not in alone
    assert records.read(run, tmp_path) == record
    assert records.read(replace(run, watched=False), tmp_path) == alone


def test_what_is_kept_is_what_a_loop_by_hand_measures(tmp_path):
    run = watched(2, "164-original", 11)
    kept = train(run, threads=1, results=tmp_path)["units"]
    state = State(run.recipe, 0, "cpu", "fp32")
    for entry in kept:
        while state.iteration < entry["iteration"]:
            state.step()
        found = measure(state.network, *state.batches.images.plain(0, 64))
        assert len(found) == len(entry["truncated"]) == 3
        for name in ("negative", "truncated", "signal", "residual", "gradient"):
            assert entry[name] == pytest.approx([getattr(unit, name) for unit in found], rel=6e-3)
    assert [entry["iteration"] for entry in kept] == [0, 1, 5, 20]


@pytest.mark.parametrize("stops", [1, 2, 7])
def test_a_watched_run_that_was_stopped_ends_as_an_uninterrupted_one(tmp_path, stops):
    run = watched(2, "164-original", 11)
    asked = iter(range(1, 20))
    assert train(run, threads=1, results=tmp_path, should_stop=lambda: next(asked) == stops) is None
    assert records.read(run, tmp_path) is None and run.checkpoint_path(tmp_path).exists()
    resumed = train(run, threads=1, results=tmp_path)
    whole = train(run, threads=1, results=tmp_path / "whole")
    assert (records.numbers(resumed), resumed["units"]) == (records.numbers(whole), whole["units"])


def test_a_run_is_watched_once(tmp_path):
    run = watched(1, "original")
    first = train(run, results=tmp_path)
    assert train(run, results=tmp_path) == first  # with the time at which it was written
    other = watched(1, "original", iterations=40)
    other.folder(tmp_path).mkdir()
    run.record_path(tmp_path).rename(other.record_path(tmp_path))
    with pytest.raises(UsageError, match="of another recipe"):
        train(other, results=tmp_path)


def test_a_run_that_diverges_keeps_what_was_measured_before(tmp_path):
    run = watched(1, "original", cls=Exploding)
    record = train(run, results=tmp_path)
    assert record["status"] == "diverged" and record["diverged_at"] == record["curve"]["iteration"][-1]
    assert [entry["iteration"] for entry in record["units"]] == [0, 1]  # the rate that breaks it comes after these
    assert None not in record["units"][0]["gradient"]


def test_rows_without_a_watched_run_have_seen_nothing(tmp_path):
    (row,) = paper.rows(3, ["cifar10-164-original"])
    assert watching.seen(row, "smoke", results=tmp_path).n == 0


def test_seen_are_the_runs_that_ended(tmp_path):
    (row,) = paper.rows(1, ["original"])
    cut = Reduction(8, 20)
    for seed in (1, 0):
        train(watched(1, "original", seed=seed), results=tmp_path)
    train(small_run(1, "original", seed=2), results=tmp_path)
    run = watched(1, "original", seed=1)
    ended = watching.seen(row, "smoke", cut, tmp_path)
    assert ([record["seed"] for record in ended.records], ended.diverged) == ([0, 1], 0)
    record = records.read(run, tmp_path)
    record |= {"status": "diverged", "diverged_at": 20, "test_error": None}
    record["curve"]["test_error"][-1] = None
    records.store(run, record | {"digest": soundness.digest(record)}, tmp_path)
    ended = watching.seen(row, "smoke", cut, tmp_path)
    assert ([record["seed"] for record in ended.records], ended.diverged) == ([0], 1)
    assert not records.runs_of(row, "quick", cut, tmp_path)
    assert len(records.runs_of(row, "smoke", cut, tmp_path)) == 1  # what was watched is no run of a table


def test_the_share_is_the_mean_over_units_at_the_end():
    record = {"units": [{"truncated": [0.9, 0.9]}, {"truncated": [0.1, 0.3]}]}
    assert watching.share_truncated(record) == pytest.approx(0.2)


def test_the_command_watches_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    commands.watch("2", ["164-original"], tier="smoke", depth=11, iterations=16, device="cpu")
    path = tmp_path / "smoke/table-2/164-original@depth-11-iterations-16/watched-0.json"
    assert f"watched: {path}" in capsys.readouterr().out
    assert json.loads(path.read_text())["recipe"]["network"]["depth"] == 11


def test_committed_watched_records_are_of_the_recipe_that_they_name():
    for path in known("watched-*"):
        record = json.loads(path.read_text())
        (row,) = paper.rows(record["table"], [record["row"]])
        cut = Reduction.parse(record["reduction"])
        run = Run(row, record["variant"], record["tier"], record["seed"], cut, watched=True)
        assert records.read(run, ROOT / "results") == record
        assert run.record_path(ROOT / "results") == path
