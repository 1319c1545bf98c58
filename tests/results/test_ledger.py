"""The ledger's verdicts, from records written for the purpose; and that its claims name what is there."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings.analysis import checks
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.results import ledger, records
from identity_mappings.results.claims import CLAIMS, Claim, Comparison
from identity_mappings.results.quantities import EARLY_LOSS, ERROR, FINAL_LOSS
from identity_mappings.results.statistics import summarise

ROOT = Path(__file__).resolve().parents[2]
CUT = Reduction(depth=20)


@pytest.fixture
def put(outcome, tmp_path):
    """Writes a record a seed for a row: errors in percent, None for a run that diverged."""

    def write(table, id, errors, tier="paper", reduction=Reduction(), losses=None):
        (row,) = paper.rows(table, [id])
        for seed, error in enumerate(errors):
            run = Run(*place(row, next(iter(row.networks))), tier, seed, reduction)
            made = outcome(error, "finished" if error is not None else "diverged")
            if losses:
                iterations = run.recipe.protocol.iterations
                made["curve"] = made["curve"] | {
                    "iteration": [iterations // 20, iterations // 10, iterations // 2, iterations],
                    "train_loss": [loss + seed / 100 for loss in losses],
                }
            records.write(run, made, tmp_path)
        return tmp_path

    return write


def claim(*comparisons, **more):
    return Claim("some", "1", "Some claim.", "[Table 1](table-1.md)", comparisons, **more)


CONV = Comparison(1, "conv-1x1", "above", "original")
NEAR = Comparison(1, "shortcut-gating-6", "near", "original")


@pytest.mark.parametrize(
    "comparison, ours, base, word, n",
    [
        (CONV, [12.1, 12.3, 12.2, 12.4, 12.0], [6.6, 6.7, 6.5, 6.8, 6.6], "holds", 5),
        (CONV, [6.0, 6.1, 6.0, 6.2, 6.1], [7.6, 7.7, 7.5, 7.8, 7.6], "differs", 5),
        (CONV, [6.5, 6.9, 6.4, 6.6, 6.7], [6.6, 6.7, 6.5, 6.8, 6.6], "underpowered", 5),
        (CONV, [12.1], [6.6], "underpowered", 1),
        (CONV, [12.1, 12.3], [6.6], "underpowered", 1),  # one seed that both have
        (CONV, [None, None], [6.6, 6.7], "holds", 2),
        (CONV, [None, 12.0], [6.6, 6.7], "underpowered", 2),
        (CONV, [None, None], [None, None], "underpowered", 2),
        (CONV, [], [6.6], "not yet run", 0),
        (CONV, [12.1], [], "not yet run", 0),
        (NEAR, [6.7, 6.8, 6.6, 6.9, 6.7], [6.6, 6.7, 6.5, 6.8, 6.6], "holds", 5),
        (NEAR, [8.7, 8.8, 8.6, 8.9, 8.7], [6.6, 6.7, 6.5, 6.8, 6.6], "differs", 5),
        (NEAR, [4.6, 4.7, 4.5, 4.8, 4.6], [6.6, 6.7, 6.5, 6.8, 6.6], "differs", 5),  # better is not near
        (NEAR, [6.0, 7.8], [6.6, 6.7], "underpowered", 2),
        (Comparison(1, "dropout", "fails"), [80.0, None, 21.0], [], "holds", 3),
        (Comparison(1, "dropout", "fails"), [19.0], [], "differs", 1),
        (Comparison(1, "dropout", "fails"), [], [], "not yet run", 0),
    ],
)
def test_paper_tier(put, comparison, ours, base, word, n, tmp_path):
    put(1, comparison.row, ours)
    if comparison.base:
        put(1, comparison.base, base)
    found = ledger.verdict(comparison, "paper", results=tmp_path)
    assert (found.word, found.n) == (word, n)
    assert ledger.verdict(comparison, "quick", results=tmp_path) == ledger.NOT_RUN


@pytest.mark.parametrize(
    "comparison, ours, base, word",
    [
        (CONV, [9.0], [7.0], "seen"),
        (CONV, [6.0], [7.0], "not seen"),
        (CONV, [7.0], [7.0], "not seen"),
        (CONV, [None], [7.0], "seen"),
        (CONV, [None], [None], "not seen"),
        (NEAR, [8.9], [7.0], "seen"),
        (NEAR, [9.1], [7.0], "not seen"),
        (Comparison(1, "dropout", "fails"), [80.0], [], "seen"),
        (Comparison(1, "dropout", "fails"), [None], [], "seen"),
        (Comparison(1, "dropout", "fails"), [8.0], [], "not seen"),
    ],
)
@pytest.mark.parametrize("tier", ["smoke", "quick"])
def test_small_tiers_never_decide(put, comparison, ours, base, word, tier, tmp_path):
    put(1, comparison.row, ours, tier)
    if comparison.base:
        put(1, comparison.base, base, tier)
    assert str(ledger.verdict(comparison, tier, results=tmp_path)) == f"{word}, n = 1"
    found = ledger.claim_verdicts(claim(comparison), tmp_path)
    assert {name: str(one) for name, one in found.items()} == {
        "paper tier": "not yet run",
        f"{tier} tier": f"{word}, n = 1",
    }


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9))
def test_below_is_above_with_the_rows_exchanged(distances):
    opposite = [-distance for distance in distances]
    assert ledger._decided("above", distances) == ledger._decided("below", opposite)
    verdicts = {ledger._decided(relation, distances) for relation in ("above", "below")}
    assert verdicts in ({"holds", "differs"}, {"underpowered"})


def test_a_claim_holds_when_all_of_it_does(put, tmp_path):
    put(1, "original", [6.6, 6.7, 6.5, 6.8, 6.6])
    put(1, "conv-1x1", [12.1, 12.3, 12.2, 12.4, 12.0])
    both = claim(CONV, Comparison(1, "dropout", "fails"))
    assert str(ledger.claim_verdict(both, "paper", results=tmp_path)) == "underpowered, n = 5, 1 of 2 comparisons run"
    put(1, "dropout", [90.0])
    assert str(ledger.claim_verdict(both, "paper", results=tmp_path)) == "holds, n = 1"
    put(1, "shortcut-gating-6", [9.1, 9.3, 9.2, 9.4, 9.0])
    assert ledger.claim_verdict(both, "paper", results=tmp_path).word == "holds"
    assert ledger.claim_verdict(claim(CONV, NEAR), "paper", results=tmp_path).word == "differs"


def test_losses_at_the_start_and_at_the_end(put, tmp_path):
    put(2, "110-bn-after-addition", [9.0] * 3, losses=[2.0, 1.8, 0.5, 0.1])
    put(2, "110-original", [9.0] * 3, losses=[1.5, 1.1, 0.6, 0.2])
    of = summarise(paper.rows(2, ["110-original"])[0], "paper", results=tmp_path).records[0]
    assert EARLY_LOSS.of(of) == pytest.approx(1.3)  # the mean of the two entries in the first tenth
    assert FINAL_LOSS.of(of) == 0.2
    for quantity, word in ((EARLY_LOSS, "holds"), (FINAL_LOSS, "differs")):
        one = Comparison(2, "110-bn-after-addition", "above", "110-original", quantity)
        assert ledger.verdict(one, "paper", results=tmp_path).word == word


def test_a_curve_whose_first_entry_comes_late(run, outcome, tmp_path):
    record = records.write(run, outcome(10.0), tmp_path)
    assert EARLY_LOSS.of(record) == record["curve"]["train_loss"][0]
    diverged = records.write(run, outcome(None, "diverged"), tmp_path / "other")
    assert FINAL_LOSS.of(diverged) == math.inf


@pytest.mark.parametrize("deep, word", [(4.9, "holds"), (7.4, "differs")])
def test_the_gain_is_larger_at_1001_layers(put, deep, word, tmp_path):
    seeds = [0.0, 0.1, -0.1, 0.05]
    for id, error in {"164-original": 5.9, "164-pre-activation": 5.4, "1001-original": 7.6}.items():
        put(3, f"cifar10-{id}", [error + each for each in seeds])
    put(3, "cifar10-1001-pre-activation", [deep + each / 2 for each in seeds])
    (one,) = [each for each in CLAIMS if each.id == "deeper-gains-more"]
    assert ledger.verdict(one.comparisons[0], "paper", results=tmp_path).word == word


def test_a_cut_of_the_depth_says_nothing_of_depth(put, tmp_path):
    for depth in (164, 1001):
        for order in ("original", "pre-activation"):
            put(3, f"cifar10-{depth}-{order}", [9.0 - depth / 1000], "quick", CUT, losses=[2.0, 1.0, 0.5, 0.1])
    by_id = {each.id: ledger.claim_verdicts(each, tmp_path) for each in CLAIMS}
    assert list(by_id["pre-activation"]) == ["paper tier", "quick tier at 20 layers"]
    for id in ("depth", "slow-start", "deeper-gains-more"):
        assert list(by_id[id]) == ["paper tier"]


def test_every_row_that_a_claim_names_is_there():
    for each in CLAIMS:
        for comparison in each.comparisons:
            assert paper.rows(comparison.table, [i for i in (comparison.row, comparison.base) if i])
        assert sum(map(bool, (each.comparisons, each.check, each.missing))) == 1, each.id
    assert len({each.id for each in CLAIMS}) == len(CLAIMS)


def test_what_is_compared_is_what_the_papers_own_numbers_show():
    """Each comparison of test errors holds between the numbers that the paper prints."""
    for comparison in (one for each in CLAIMS for one in each.comparisons if one.quantity is ERROR):
        if comparison.table == "gate-bias":
            continue
        ids = [i for i in (comparison.row, comparison.base, *(comparison.rest or ())) if i]
        errors = [paper.rows(comparison.table, [id])[0].published.error for id in ids]
        if comparison.relation == "fails":
            assert errors == [None]
            continue
        gap = errors[0] - errors[1] - (errors[2] - errors[3] if comparison.rest else 0)
        shown = {"above": gap > 0, "below": gap < 0, "near": abs(gap) <= 0.5}
        assert shown[comparison.relation], comparison


def test_the_computed_claims_hold_and_say_so(tmp_path):
    for each in (each for each in CLAIMS if each.check):
        assert ledger.said(each).startswith("**holds**: "), each.id


def test_a_computation_that_fails_is_a_claim_that_differs():
    wrong = Claim("wrong", "1", "Wrong.", "", check=checks.exact(lambda: 0.5))
    assert ledger.said(wrong) == "**differs**: largest relative error 5e-01"


def test_without_records_nothing_is_decided(tmp_path):
    table = ledger.markdown(tmp_path)
    assert len(table.splitlines()) == len(CLAIMS) + 2
    open_claims = sum(not each.check for each in CLAIMS)
    assert table.count("paper tier: not yet run") == open_claims
    assert f"{open_claims} are not yet run" in ledger.counted(tmp_path)
    assert "seen" not in re.sub(r"\[.*?\]", "", table)


def test_pages_that_claims_point_to_are_there():
    pages = {page for each in CLAIMS for page in re.findall(r"\]\((.+?\.md)\)", each.page)}
    assert pages and all((ROOT / "book" / page).exists() for page in pages)
