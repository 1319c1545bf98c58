"""The ledger's verdicts, from records written for the purpose; and that its claims name what is there."""

import math
import re
from pathlib import Path

import pytest

from identity_mappings.analysis import checks
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.results import ledger, records, verdicts
from identity_mappings.results.claims import CLAIMS, Claim
from identity_mappings.results.quantities import EARLY_LOSS, ERROR, FINAL_LOSS
from identity_mappings.results.statistics import summarise
from identity_mappings.results.verdicts import Comparison

ROOT = Path(__file__).resolve().parents[2]
CUT = Reduction(depth=20)


def claim(*comparisons, **more):
    return Claim("some", "1", "Some claim.", "[Table 1](table-1.md)", comparisons, **more)


CONV = Comparison(1, "conv-1x1", "above", "original")
NEAR = Comparison(1, "shortcut-gating-6", "near", "original")
FAILS = Comparison(1, "dropout", "fails", "original")
SIX = Comparison(1, "exclusive-gating-0-to-5", "fails", "original")


@pytest.mark.parametrize(
    "comparison, ours, base, said",
    [
        (CONV, [12.1, 12.3, 12.2, 12.4, 12.0], [6.6, 6.7, 6.5, 6.8, 6.6], "seen (n = 5, +5.56 ± 0.14)"),
        (CONV, [6.0, 6.1, 6.0, 6.2, 6.1], [7.6, 7.7, 7.5, 7.8, 7.6], "contradicted (n = 5, -1.560 ± 0.068)"),
        (CONV, [6.5, 6.9, 6.4, 6.6, 6.7], [6.6, 6.7, 6.5, 6.8, 6.6], "undecided (n = 5, -0.02 ± 0.20)"),
        (CONV, [12.1], [6.6], "undecided (n = 1, +5.5)"),
        (CONV, [12.1, 12.3], [6.6], "undecided (n = 1, +5.5)"),  # one seed that both have
        (CONV, [None] * 3, [6.6, 6.7, 6.8], "seen (n = 3, +83.30 ± 0.25)"),  # counted as guesses, at 90 %
        (CONV, [None, 6.9, 6.8], [6.6, 6.7, 6.8], "undecided (n = 3, +27.9 ± 119.5)"),
        (CONV, [None, None], [None, None], "untrained (its baseline in 2 of 2 runs)"),
        (CONV, [], [6.6], "not run"),
        (CONV, [12.1], [], "not run"),
        (NEAR, [6.7, 6.8, 6.6, 6.9, 6.7], [6.6, 6.7, 6.5, 6.8, 6.6], "seen (n = 5, +0.100 ± 0.000)"),
        (NEAR, [8.7, 8.8, 8.6, 8.9, 8.7], [6.6, 6.7, 6.5, 6.8, 6.6], "contradicted (n = 5, +2.100 ± 0.000)"),
        (NEAR, [4.6, 4.7, 4.5, 4.8, 4.6], [6.6, 6.7, 6.5, 6.8, 6.6], "contradicted (n = 5, -2.0 ± 0.0)"),
        (NEAR, [6.0, 7.8], [6.6, 6.7], "undecided (n = 2, +0.2 ± 10.8)"),
        (FAILS, [80.0, None, 21.0], [6.6, 6.7, 6.5], "seen (3 of 3 runs failed)"),
        (FAILS, [80.0, None, 19.0], [6.6, 6.7, 6.5], "undecided (2 of 3 runs failed)"),
        (FAILS, [18.0, 18.1, 18.3], [6.6, 6.7, 6.5], "contradicted (n = 3, it learns, +11.53 ± 0.57)"),  # below 20 %
        (FAILS, [80.0, None], [6.6, 6.7], "undecided (2 of 2 runs failed)"),
        (FAILS, [], [6.6], "not run"),
    ],
)
def test_paper_tier(put, comparison, ours, base, said, tmp_path):
    put(1, comparison.row, ours)
    put(1, comparison.base, base)
    found = verdicts.verdict(comparison, "paper", results=tmp_path)
    assert str(found) == said
    assert verdicts.verdict(comparison, "quick", results=tmp_path) == verdicts.NOT_RUN


@pytest.mark.parametrize(
    "comparison, ours, base, said",
    [
        (CONV, [49.0, 48.1, 48.6], [40.0, 40.1, 39.6], "seen (n = 3, +8.7 ± 1.4)"),
        (CONV, [39.0, 38.1, 38.6], [40.0, 40.1, 39.6], "undecided (n = 3, -1.3 ± 1.4)"),
        (CONV, [49.0], [40.0], "undecided (n = 1, +9.0)"),
        (CONV, [None] * 3, [40.0, 40.1, 39.6], "seen (n = 3, +50.10 ± 0.66)"),
        (CONV, [49.0, 48.1, 48.6], [88.0, 40.1, 39.6], "untrained (its baseline in 1 of 3 runs)"),
        (CONV, [88.0] * 3, [86.0] * 3, "untrained (its baseline in 3 of 3 runs)"),
        (NEAR, [40.5, 40.4, 39.7], [40.0, 40.1, 39.6], "seen (n = 3, +0.30 ± 0.62)"),
        (FAILS, [86.0, 89.0, None], [40.0, 40.1, 39.6], "seen (3 of 3 runs failed)"),
        (FAILS, [80.0, 81.0, 79.5], [40.0, 40.1, 39.6], "undecided (n = 3, it learns, +40.3 ± 1.4)"),
        (FAILS, [40.5, 40.4, 39.7], [40.0, 40.1, 39.6], "contradicted (n = 3, it learns, +0.30 ± 0.62)"),
        (SIX, [86.0, 89.0, None], [40.0, 40.1, 39.6], "undecided (n = 3, of 6: 1 seen, 5 not run)"),
    ],
)
@pytest.mark.parametrize("tier", ["smoke", "pocket", "quick"])
def test_small_tiers(put, comparison, ours, base, said, tier, tmp_path):
    put(1, comparison.row, ours, tier)
    put(1, comparison.base, base, tier)
    found = claim(comparison)
    assert {name: str(one) for name, one in ledger.claim_verdicts(found, tmp_path).items()} == {
        "paper tier": "not run",
        f"{tier} tier": said,
    }


def test_a_claim_is_seen_when_all_of_it_is(put, tmp_path):
    put(1, "original", [6.6, 6.7, 6.5, 6.8, 6.6])
    put(1, "conv-1x1", [12.1, 12.3, 12.2, 12.4, 12.0])
    both = claim(CONV, FAILS)
    assert str(ledger.claim_verdict(both, "paper", results=tmp_path)) == "undecided (n = 5, of 2: 1 seen, 1 not run)"
    put(1, "dropout", [90.0, 91.0, 90.0])
    assert str(ledger.claim_verdict(both, "paper", results=tmp_path)) == "seen (n = 3, of 2: 2 seen)"
    put(1, "shortcut-gating-6", [9.1, 9.3, 9.2, 9.4, 9.0])
    found = ledger.claim_verdict(claim(CONV, NEAR), "paper", results=tmp_path)
    assert str(found) == "contradicted (n = 5, of 2: 1 seen, 1 contradicted)"


def test_losses_at_the_start_and_at_the_end(put, tmp_path):
    put(2, "110-bn-after-addition", [9.0] * 3, losses=[2.0, 1.8, 0.5, 0.1])
    put(2, "110-original", [9.0] * 3, losses=[1.5, 1.1, 0.6, 0.2])
    of = summarise(paper.rows(2, ["110-original"])[0], "paper", results=tmp_path).records[0]
    assert EARLY_LOSS.of(of) == pytest.approx(1.3)  # the mean of the two entries in the first tenth
    assert FINAL_LOSS.of(of) == 0.2
    for quantity, word in ((EARLY_LOSS, "seen"), (FINAL_LOSS, "contradicted")):
        one = Comparison(2, "110-bn-after-addition", "above", "110-original", quantity)
        assert verdicts.verdict(one, "paper", results=tmp_path).word == word


def test_a_curve_whose_first_entry_comes_late(run, outcome, tmp_path):
    record = records.write(run, outcome(10.0), tmp_path)
    assert EARLY_LOSS.of(record) == record["curve"]["train_loss"][0]
    diverged = records.write(run, outcome(None, "diverged"), tmp_path / "other")
    assert FINAL_LOSS.of(diverged) == math.inf


@pytest.mark.parametrize("deep, word", [(4.9, "seen"), (7.4, "contradicted")])
def test_the_gain_is_larger_at_1001_layers(put, deep, word, tmp_path):
    seeds = [0.0, 0.1, -0.1, 0.05]
    for id, error in {"164-original": 5.9, "164-pre-activation": 5.4, "1001-original": 7.6}.items():
        put(3, f"cifar10-{id}", [error + each for each in seeds])
    put(3, "cifar10-1001-pre-activation", [deep + each / 2 for each in seeds])
    (one,) = [each for each in CLAIMS if each.id == "deeper-gains-more"]
    assert verdicts.verdict(one.comparisons[0], "paper", results=tmp_path).word == word


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
            assert errors[0] is None
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
    assert sum(line.startswith("|") for line in table.splitlines()) == len(CLAIMS) + 2
    open_claims = sum(not each.check for each in CLAIMS)
    assert table.count("paper tier: not run") == open_claims
    assert f"in the paper tier: {open_claims} not run." in ledger.counted(tmp_path)
    assert "seen" not in re.sub(r"\[.*?\]", "", table)


def test_pages_that_claims_point_to_are_there():
    pages = {page for each in CLAIMS for page in re.findall(r"\]\((.+?\.md)\)", each.page)}
    assert pages and all((ROOT / "book" / page).exists() for page in pages)
