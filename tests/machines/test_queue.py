"""What is worth running next, and what it costs here."""

import pytest
from conftest import small_run

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.machines import queue
from identity_mappings.nets.counts import Counts
from identity_mappings.results import costs, records


@pytest.fixture(autouse=True)
def quick_counts(monkeypatch):
    """Counting every net of the paper takes a while; the depth tells as much here."""
    counted = lambda spec, size: Counts(0, 0, spec.depth)  # noqa: E731
    monkeypatch.setattr("identity_mappings.experiments.runs.count", counted)


def made(outcome, results, table, id, *errors, **more):
    (row,) = paper.rows(table, [id])
    for seed, error in enumerate(errors):
        for variant in row.networks:
            run = Run(*place(row, variant), "smoke", seed)
            records.write(run, outcome(error) | {"device": "here", "device_seconds": 60.0} | more, results)


def test_without_records_the_cheapest_claim_comes_first(tmp_path):
    found = queue.candidates("smoke", "here", results=tmp_path)
    assert {each.standing for each in found} == {"not run"} and {each.seconds for each in found} == {None}
    work = [each.multiply_adds for each in found]
    assert work == sorted(work) and len(found) > 15
    first = next(each for each in found if each.row.table == 2)
    assert [run.seed for run in first.runs] == [0, 0]  # the row and its baseline


def test_an_open_claim_comes_before_one_without_runs_and_a_decided_one_is_left_out(tmp_path, outcome):
    made(outcome, tmp_path, 1, "original", 5.0, 5.2, 5.1)
    made(outcome, tmp_path, 1, "conv-1x1", 5.1, 5.0, 5.3)  # undecided
    made(outcome, tmp_path, 1, "shortcut-gating-0", 60.0, 61.0, 60.5)  # decided
    made(outcome, tmp_path, 1, "shortcut-gating-6", 5.1)  # one pair
    found = queue.candidates("smoke", "here", results=tmp_path)
    assert {each.row.id for each in found[:2]} == {"conv-1x1", "shortcut-gating-6"}
    assert {each.row.id: each.pairs for each in found[:2]} == {"conv-1x1": 3, "shortcut-gating-6": 1}
    assert all(each.standing == "not run" for each in found[2:])
    assert "shortcut-gating-0" not in {each.row.id for each in found}
    next_seed = {each.row.id: [(run.row.id, run.seed) for run in each.runs] for each in found}
    assert next_seed["conv-1x1"] == [("original", 3), ("conv-1x1", 3)]
    assert next_seed["shortcut-gating-6"] == [("shortcut-gating-6", 1)]  # the baseline has that seed
    assert found[0].commands[-1].endswith("--tier smoke --seed 1") or found[1].commands[-1].endswith("--seed 1")


def test_the_cost_is_that_of_a_dry_run(tmp_path, outcome):
    """One estimate for both commands: what `reproduce --dry-run` says of the same runs."""
    made(outcome, tmp_path, 1, "original", 5.0)
    found = {each.row.id: each for each in queue.candidates("smoke", "here", results=tmp_path)}
    scaling = found["scaling-0.5-1"]
    assert [run.row.id for run in scaling.runs] == ["scaling-0.5-1"]
    assert scaling.seconds == pytest.approx(60, rel=0.05)  # a net of as many layers takes about what the baseline took
    assert scaling.source == "finished runs of the same tier"
    (elsewhere, *_) = queue.candidates("pocket", "here", results=tmp_path)
    assert elsewhere.source == "finished runs of other tiers"
    assert f"about {costs.duration(scaling.seconds)} of here" in costs.left(scaling.runs, "here", "fp32", tmp_path)
    deep = found["cifar10-1001-pre-activation"]  # and its baseline, nine times the layers
    more = deep.multiply_adds / scaling.multiply_adds
    assert len(deep.runs) == 2 and more > 4
    assert deep.seconds == pytest.approx(more * scaling.seconds)


def test_other_devices_and_diverged_runs_tell_no_cost(tmp_path, outcome):
    made(outcome, tmp_path, 1, "original", 5.0, device="elsewhere")
    diverged = outcome(None, "diverged") | {"device": "here", "device_seconds": 60.0}
    records.write(Run(*place(paper.rows(1, ["conv-1x1"])[0], ""), "smoke", 0), diverged, tmp_path)
    assert {each.seconds for each in queue.candidates("smoke", "here", results=tmp_path)} == {None}


def test_a_reduced_run_answers_no_question(tmp_path, outcome):
    records.write(small_run(1, "original"), outcome(5.0), tmp_path)
    assert small_run(1, "original").reduction != Reduction()
    assert queue.candidates("smoke", "here", results=tmp_path)[0].standing == "not run"
