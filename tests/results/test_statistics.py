"""What runs add up to: medians, intervals, and the verdicts beside the paper's numbers."""

import math

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.results import records
from identity_mappings.results.statistics import Summary, summarise

INF = math.inf


def result(id, *errors, tier="paper", table=1):
    (row,) = paper.rows(table, [id])
    return Summary(row, tier, tuple(sorted(errors)), ())


@pytest.mark.parametrize(
    "summary, verdict",
    [
        (result("original"), "not run"),
        (result("original", 6.5, 6.6, 6.61, 6.65, 6.7), "consistent"),
        (result("original", 7.5, 7.6, 7.61, 7.65, 7.7), "differs"),
        (result("original", 5.5, 5.6, 5.61, 5.65, 5.7), "differs"),
        (result("original", 6.6), "underpowered (n=1: no interval)"),
        (result("original", 5.0, 6.0, 6.61, 8.0, 9.0), "underpowered (+0.00 ± 3.50)"),
        (result("original", 6.6, INF, INF), "differs"),
        (result("plain", 35.0), "consistent"),
        (result("plain", INF), "consistent"),
        (result("plain", 9.0), "differs"),
    ],
)
def test_verdicts_against_the_paper(summary, verdict):
    assert summary.verdict() == verdict


BASE = result("original", 5.0, 5.2, 5.4, tier="smoke")


@pytest.mark.parametrize(
    "summary, baseline, verdict",
    [
        (BASE, None, "baseline"),
        (result("dropout", 30.0, tier="smoke"), BASE, "fails: seen"),
        (result("dropout", 8.0, tier="smoke"), BASE, "fails: not seen"),
        (
            result("dropout", 60.0, tier="smoke"),
            result("original", 54.0, tier="smoke"),
            "fails, but so does original: says nothing",
        ),
        (result("conv-1x1", 8.0, tier="smoke"), BASE, "worse than original: seen"),
        (result("conv-1x1", 4.0, tier="smoke"), BASE, "worse than original: not seen"),
        (result("conv-1x1", INF, tier="smoke"), BASE, "worse than original: seen"),
        (result("conv-1x1", 4.0, tier="smoke"), None, "worse than original: baseline not run"),
        (result("shortcut-gating-6", 7.1, tier="smoke"), BASE, "near original: seen"),
        (result("shortcut-gating-6", 7.3, tier="smoke"), BASE, "near original: not seen"),
        (result("dropout", tier="smoke"), BASE, "not run"),
    ],
)
def test_verdicts_of_a_small_tier(summary, baseline, verdict):
    assert summary.verdict(baseline) == verdict


def test_better_is_below_the_baseline():
    base = result("110-original", 6.0, tier="smoke", table=2)
    for error, seen in ((5.0, "seen"), (7.0, "not seen")):
        row = result("110-full-pre-activation", error, tier="smoke", table=2)
        assert row.verdict(base) == f"better than 110-original: {seen}"


@pytest.mark.parametrize(
    "errors, median, printed",
    [
        ((), None, "not run"),
        ((7.0,), 7.0, "7.00, n = 1"),
        ((6.0, 8.0), 7.0, "7.00 (7.00 ± 1.41), n = 2"),
        ((6.0, 7.0, INF), 7.0, "7.00, n = 3 (1 diverged)"),
        ((6.0, INF), INF, "fail, n = 2 (1 diverged)"),
        ((INF, INF), INF, "fail, n = 2 (2 diverged)"),
        ((25.0,), 25.0, "fail: 25.00, n = 1"),
    ],
)
def test_medians_and_how_they_are_printed(errors, median, printed):
    summary = result("original", *errors)
    assert summary.median == median
    assert str(summary) == printed


def test_half_width_of_five_runs():
    summary = result("original", 1.0, 2.0, 3.0, 4.0, 5.0)
    assert summary.half_width == pytest.approx(2.776 * math.sqrt(2.5) * math.sqrt(math.pi / 5))


def test_a_summary_counts_the_records_of_all_variants(outcome, tmp_path):
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    cut = Reduction(8, 20)
    for variant, error in (("bias-0", 50.0), ("bias-5", 30.0)):
        records.write(Run(*place(row, variant), "smoke", 0, cut), outcome(error), tmp_path)
    records.write(Run(*place(row, "bias-5"), "smoke", 1, cut), outcome(None, "diverged"), tmp_path)
    summary = summarise(row, "smoke", cut, tmp_path)
    assert summary.errors == (30.0, 50.0, INF)
    assert summarise(row, "smoke", results=tmp_path).n == 0
    assert records.reductions(row, "smoke", tmp_path) == [cut]


def test_tables_share_the_record_of_a_shared_recipe(run, outcome, tmp_path):
    records.write(run, outcome(9.0), tmp_path)
    (row,) = paper.rows(2, ["110-original"])
    assert summarise(row, "smoke", run.reduction, tmp_path).errors == (9.0,)


def test_only_table_1_calls_an_error_above_20_percent_a_failure():
    (row,) = paper.rows(3, ["cifar100-164-original"])
    errors = (25.0, 25.1, 25.16, 25.2, 25.3)
    found = Summary(row, "paper", errors, ({},) * 5)
    assert not found.fails
    assert found.verdict() == "consistent"
    assert "fail" not in found.error()
