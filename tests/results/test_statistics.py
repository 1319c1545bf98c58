"""What runs add up to: medians and spreads, and how they are printed."""

import math

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.results import records
from identity_mappings.results.statistics import Summary, summaries, summarise

INF = math.inf


def result(id, *errors, tier="paper", table=1):
    (row,) = paper.rows(table, [id])
    return Summary(row, tier, tuple(sorted(errors)), ())


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


def test_each_recipe_of_a_row_has_a_summary_of_its_own(put):
    cut = Reduction(8, 20)
    put(1, "exclusive-gating-0-to-5", [50.0], "smoke", cut, variant="bias-0")
    folder = put(1, "exclusive-gating-0-to-5", [30.0, None], "smoke", cut, variant="bias-5")
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    found = {each.name: each.errors for each in summaries(row, "smoke", cut, folder)}
    assert found.pop("exclusive-gating-0-to-5/bias-0") == (50.0,)
    assert found.pop("exclusive-gating-0-to-5/bias-5") == (30.0, INF)
    assert len(found) == 4 and set(found.values()) == {()}
    assert records.reductions(row, "smoke", folder) == [cut]


def test_tables_share_the_record_of_a_shared_recipe(run, outcome, tmp_path):
    records.write(run, outcome(9.0), tmp_path)
    (row,) = paper.rows(2, ["110-original"])
    assert summarise(row, "smoke", run.reduction, tmp_path).errors == (9.0,)


def test_only_the_paper_tier_of_table_1_calls_an_error_above_20_percent_a_failure():
    for table, id, tier in ((3, "cifar100-164-original", "paper"), (1, "original", "pocket")):
        (row,) = paper.rows(table, [id])
        found = Summary(row, tier, (25.0, 25.1, 25.16, 25.2, 25.3), ({},) * 5)
        assert not found.fails
        assert found.error() == "25.16 (25.15 ± 0.11)"
