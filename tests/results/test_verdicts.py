"""The verdicts: each kind of claim by hand, properties that any rule must have, and what tables say of records."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings.experiments import paper
from identity_mappings.results import tables, verdicts
from identity_mappings.results.statistics import Summary, interval, learnt, quantile
from identity_mappings.results.verdicts import Outcome, Verdict, decided, judge, together

GAPS = st.lists(st.floats(-40, 40), min_size=1, max_size=7)


def outcomes(values, failed=()):
    return [Outcome(90.0, False) if seed in failed else Outcome(value) for seed, value in enumerate(values)]


def said(relation, gaps, failed=(), untrained=(), level=50.0):
    """What is said of a row so far from a baseline that always ends at one level."""
    ours = outcomes([level + gap for gap in gaps], failed)
    return judge(relation, ours, outcomes([level] * len(gaps), untrained))


@pytest.mark.parametrize(
    "relation, gaps, words",
    [
        ("above", [], "not run"),
        ("above", [8.0], "undecided (n = 1, +8.0)"),
        ("above", [8.0, 9.0], "seen (n = 2, +8.5 ± 6.4)"),
        ("above", [8.0, 11.0], "undecided (n = 2, +9.5 ± 19.1)"),
        ("above", [7.0, 8.0, 9.0], "seen (n = 3, +8.0 ± 2.5)"),
        ("below", [7.0, 8.0, 9.0], "contradicted (n = 3, +8.0 ± 2.5)"),
        ("above", [-7.0, -8.0, -9.0], "contradicted (n = 3, -8.0 ± 2.5)"),
        ("below", [-7.0, -8.0, -9.0], "seen (n = 3, -8.0 ± 2.5)"),
        ("above", [-0.5, 0.5, 1.2], "undecided (n = 3, +0.4 ± 2.1)"),
        ("near", [-0.5, 0.5, 0.3], "seen (n = 3, +0.1 ± 1.3)"),
        ("near", [-0.5, 0.5, 1.2], "undecided (n = 3, +0.4 ± 2.1)"),
        ("near", [7.0, 8.0, 9.0], "contradicted (n = 3, +8.0 ± 2.5)"),
        ("near", [-7.0, -8.0, -9.0], "contradicted (n = 3, -8.0 ± 2.5)"),  # far better is not near
        ("near", [1.0], "undecided (n = 1, +1.0)"),
    ],
)
def test_differences(relation, gaps, words):
    assert str(said(relation, gaps)) == words


@pytest.mark.parametrize(
    "relation, gaps, failed, words",
    [
        ("fails", [0.0], {0}, "undecided (1 of 1 run failed)"),
        ("fails", [0.0] * 2, {0, 1}, "undecided (2 of 2 runs failed)"),
        ("fails", [0.0] * 3, {0, 1, 2}, "seen (3 of 3 runs failed)"),
        ("fails", [0.0] * 4, {0, 1, 2}, "undecided (3 of 4 runs failed)"),
        ("fails", [7.0, 8.0, 9.0], (), "undecided (n = 3, it learns, +8.0 ± 2.5)"),  # bad, and no failure
        ("fails", [-0.5, 0.5, 0.3], (), "contradicted (n = 3, it learns, +0.1 ± 1.3)"),
        ("fails", [-9.0, -8.0, -7.0], (), "contradicted (n = 3, it learns, -8.0 ± 2.5)"),
        ("fails", [0.0], (), "undecided (n = 1, it learns, +0.0)"),
        ("above", [0.0] * 3, {0, 1, 2}, "seen (n = 3, +40.00 ± 0.62)"),  # a failed run counts as a guess
        ("below", [0.0] * 3, {0, 1, 2}, "contradicted (n = 3, +40.00 ± 0.62)"),
        ("near", [0.0] * 3, {0, 1, 2}, "contradicted (n = 3, +40.00 ± 0.62)"),
        ("above", [0.0, 1.0, 0.0], {2}, "undecided (n = 3, +13.7 ± 56.7)"),
    ],
)
def test_failures(relation, gaps, failed, words):
    assert str(said(relation, gaps, failed)) == words


@given(st.sampled_from(["above", "below", "near", "fails"]), GAPS, st.data())
def test_nothing_is_said_where_a_baseline_did_not_learn(relation, gaps, data):
    untrained = data.draw(st.sets(st.sampled_from(range(len(gaps))), min_size=1))
    verdict = said(relation, gaps, untrained=untrained)
    assert verdict.word == "untrained" and f"its baseline in {len(untrained)} of {len(gaps)} run" in str(verdict)


@given(GAPS)
def test_below_is_above_with_the_rows_exchanged(gaps):
    opposite = [-gap for gap in gaps]
    assert said("above", gaps).word == said("below", opposite).word
    assert said("near", gaps).word == said("near", opposite).word
    words = {said(relation, gaps).word for relation in ("above", "below")}
    assert words in ({"seen", "contradicted"}, {"undecided"})


@given(st.sampled_from(["above", "below", "near"]), st.floats(-9, 9), st.floats(0, 9), st.floats(0, 9))
def test_a_narrower_interval_never_turns_a_word_into_its_opposite(relation, mean, half, more):
    wide = decided(relation, mean - half - more, mean + half + more, 2.0)
    narrow = decided(relation, mean - half, mean + half, 2.0)
    assert wide in ("undecided", narrow) or half + more == 0


@given(GAPS)
def test_one_run_is_never_a_verdict(gaps):
    for relation in ("above", "below", "near", "fails"):
        for failed in ((), (0,)):
            assert said(relation, gaps[:1], failed).word == "undecided"


def test_two_runs_that_agree_to_the_image_are_no_certainty():
    """Digits' errors are multiples of 0.22 points, so that two differences are often equal."""
    assert said("above", [0.22, 0.22]).word == "undecided"
    assert interval([0.22, 0.22]) == (0.22, 0.0)


def test_the_interval_is_students():
    """12.1 and 12.5: mean 12.3, deviation 0.2828, and t of one degree of freedom over the root of 2 is 8.985."""
    mean, half = interval([12.1, 12.5])
    assert (mean, half) == pytest.approx((12.3, 0.4 / 2**0.5 * 12.706 / 2**0.5))


@pytest.mark.parametrize("n", range(2, 12))
def test_quantiles(n):
    """Of Student's density, integrated here: 2.5 % lie above; past the table, no more than that."""
    t = numpy.linspace(0, quantile(n), 100_001)
    norm = math.gamma(n / 2) / (math.sqrt((n - 1) * math.pi) * math.gamma((n - 1) / 2))
    inside = 2 * numpy.trapezoid(norm * (1 + t**2 / (n - 1)) ** (-n / 2), t)
    assert inside == pytest.approx(0.95, abs=1e-4) if n <= 10 else 0.95 <= inside < 0.951


@pytest.mark.parametrize(
    "classes, loss, error, status, word",
    [
        (10, 1.2, 45.0, "finished", True),
        (10, 2.25, 74.5, "finished", False),  # a loss close to ln 10 = 2.303
        (10, 1.2, 86.0, "finished", False),
        (100, 4.2, 93.9, "finished", True),
        (100, 4.2, 95.9, "finished", False),  # close to chance, 99
        (100, 4.4, 90.0, "finished", False),  # ln 100 = 4.605
        (10, None, None, "diverged", False),
        (10, 1.2, 45.0, "diverged", False),
    ],
)
def test_what_has_learnt(classes, loss, error, status, word):
    record = {
        "status": status,
        "test_error": error,
        "curve": {"train_loss": [2.0, loss]},
        "recipe": {"network": {"classes": classes}},
    }
    assert learnt(record) is word


SEEN, AGAINST = Verdict("seen", 3), Verdict("contradicted", 5)
OPEN, UNTRAINED = Verdict("undecided", 2), Verdict("untrained", 3)


@pytest.mark.parametrize(
    "parts, words",
    [
        ([SEEN, SEEN], "seen (n = 3, of 2: 2 seen)"),
        ([SEEN, AGAINST, OPEN], "contradicted (n = 2, of 3: 1 seen, 1 contradicted, 1 undecided)"),
        ([SEEN, verdicts.NOT_RUN], "undecided (n = 3, of 2: 1 seen, 1 not run)"),
        ([SEEN, UNTRAINED], "undecided (n = 3, of 2: 1 seen, 1 untrained)"),
        ([UNTRAINED, verdicts.NOT_RUN], "untrained (n = 3, of 2: 1 untrained, 1 not run)"),
        ([verdicts.NOT_RUN, verdicts.NOT_RUN], "not run"),
        ([AGAINST], "contradicted"),
    ],
)
def test_a_claim_of_several_parts(parts, words):
    assert str(together(parts)) == words


def result(id, *errors, table=1):
    (row,) = paper.rows(table, [id])
    return Summary(row, "paper", tuple(sorted(errors)), ())


INF = math.inf


@pytest.mark.parametrize(
    "summary, said",
    [
        (result("conv-1x1"), "not run"),
        (result("conv-1x1", 12.1, 12.2, 12.22, 12.26, 12.3), "consistent (n = 5, +0.00 ± 0.17)"),
        (result("conv-1x1", 12.8, 12.9, 12.92, 12.96, 13.0), "differs (n = 5, +0.70 ± 0.17)"),
        (result("conv-1x1", 11.8, 11.9, 11.92, 11.96, 12.0), "differs (n = 5, -0.30 ± 0.17)"),
        (result("conv-1x1", 12.22), "underpowered (n = 1: no interval)"),
        (result("conv-1x1", 10.0, 11.0, 12.22, 13.0, 14.0), "underpowered (n = 5, +0.0 ± 3.5)"),
        (result("conv-1x1", 12.1, INF, INF), "underpowered (2 of 3 runs failed)"),
        (result("conv-1x1", 22.1, INF, INF), "differs (3 of 3 runs failed)"),
        (result("plain", 35.0, 40.0, INF), "consistent (3 of 3 runs failed)"),
        (result("plain", 35.0), "underpowered (1 of 1 run failed)"),
        (result("plain", 9.0, 9.1, 9.2), "differs (0 of 3 runs failed)"),
        # half widths of 0.3 are narrow beside Table 1's gaps, and wide beside the 0.24 between 6.61 and 6.37
        (result("conv-1x1", 12.0, 12.2, 12.22, 12.3, 12.4), "consistent (n = 5, +0.00 ± 0.33)"),
        (
            result("110-full-pre-activation", 6.15, 6.35, 6.37, 6.45, 6.55, table=2),
            "underpowered (n = 5, +0.00 ± 0.33)",
        ),
        (result("cifar100-1001-pre-activation", 25.0, 25.1, 25.2, table=3), "differs (n = 3, +2.39 ± 0.39)"),
    ],
)
def test_beside_the_papers_numbers(summary, said):
    assert str(verdicts.beside_the_paper(summary)) == said


def test_the_papers_own_deviation_counts_where_it_is_printed():
    """Table 4 has 4.89 +- 0.14 of five runs: our mean is compared with its mean, and both deviations count."""
    ours = result("cifar10-1001-pre-activation", 4.80, 4.90, 5.00, table=4)
    gap, half = verdicts.from_the_paper(ours)
    assert gap == pytest.approx(4.90 - 4.89)
    assert half == pytest.approx(4.303 * math.sqrt(0.1**2 / 3 + 0.14**2 / 5))
    medians, wide = verdicts.from_the_paper(result("cifar10-1001-pre-activation", 4.80, 4.90, 5.00, table=3))
    assert medians == pytest.approx(4.90 - 4.92)
    assert wide == pytest.approx(4.303 * 0.1 * math.sqrt(math.pi / 2 * (1 / 3 + 1 / 5)))


@pytest.mark.parametrize(
    "table, id, points",
    [
        (1, "conv-1x1", 0.5),
        (1, "original", 0.24),  # it stands in Table 2 too, beside 6.37
        (2, "110-original", 0.24),
        (2, "110-relu-only-pre-activation", 0.24),
        (2, "164-bn-after-addition", 0.21),
        (3, "cifar100-1001-original", 0.5),
        (4, "cifar10-164-pre-activation", 0.21),
        (4, "cifar10-1202-original", 0.5),
    ],
)
def test_an_interval_must_tell_apart_what_the_paper_tells_apart(table, id, points):
    assert verdicts.resolution(*paper.rows(table, [id])) == pytest.approx(points)


def test_a_row_of_six_settings_has_six_lines_and_a_sum(put, tmp_path):
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    put(1, "original", [40.0, 40.1, 39.6], "pocket")
    for bias in range(5):
        put(1, row.id, [89.0, 88.0, None], "pocket", variant=f"bias-{bias}")
    *lines, total = tables.row_lines(row, "pocket", results=tmp_path)
    assert [line.name for line in lines] == [f"{row.id}/bias-{bias}" for bias in range(6)]
    assert [line.n for line in lines] == ["3 (1 diverged)"] * 5 + ["0"]
    assert [line.verdict for line in lines] == ["fails: seen (3 of 3 runs failed)"] * 5 + ["not run"]
    assert (total.name, total.n) == (row.id, "0 to 3 each")
    assert total.error == "fail: 0, -1, -2, -3, -4; not run: -5"
    assert total.verdict == "fails: undecided (n = 3, of 6: 5 seen, 1 not run)"
    put(1, row.id, [89.0, 88.0, 86.5], "pocket", variant="bias-5")
    total = tables.row_lines(row, "pocket", results=tmp_path)[-1]
    assert (total.error, total.n) == ("fail: 0 to -5", "3 each")
    assert total.verdict == "fails: seen (n = 3, of 6: 6 seen)"
    put(1, row.id, [40.5, 40.4, 39.7], "pocket", variant="bias-5")
    total = tables.row_lines(row, "pocket", results=tmp_path)[-1]
    assert total.error == "fail: 0, -1, -2, -3, -4; learn: -5"
    assert total.verdict == "fails: contradicted (n = 3, of 6: 5 seen, 1 contradicted)"


def test_what_a_table_says_of_a_baseline_and_without_one(put, tmp_path):
    put(1, "conv-1x1", [45.0], "pocket")
    (line,) = tables.row_lines(*paper.rows(1, ["conv-1x1"]), "pocket", results=tmp_path)
    assert line.verdict == "worse than original: undecided (no run of original with its seed)"
    put(1, "original", [40.0, 88.0], "pocket")
    (line,) = tables.row_lines(*paper.rows(1, ["original"]), "pocket", results=tmp_path)
    assert line.verdict == "baseline, untrained in 1 of 2 runs"
    (line,) = tables.row_lines(*paper.rows(4, ["cifar10-110-original"]), "pocket", results=tmp_path)
    assert line.verdict == ""  # Table 4 compares no rows


def test_the_paper_tier_says_both(put, tmp_path):
    put(1, "original", [6.6, 6.7, 6.5])
    put(1, "conv-1x1", [12.1, 12.3, 12.2])
    (line,) = tables.row_lines(*paper.rows(1, ["conv-1x1"]), "paper", results=tmp_path)
    assert line.verdict == "consistent (n = 3, -0.02 ± 0.39); worse than original: seen (n = 3, +5.60 ± 0.25)"
