"""The verdicts: each kind of claim by hand, properties that any rule must have, and error rates under a known truth."""

import math
import statistics

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings.results import simulation, verdicts
from identity_mappings.results.verdicts import Outcome, Verdict, decided, interval, judge, learnt, together

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
    t = numpy.linspace(0, verdicts.quantile(n), 100_001)
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


def share(word, relation, n, spread, difference=0.0, failing=0.0, repeats=2000):
    found = simulation.shares(
        lambda random: simulation.verdict(random, relation, n, spread, difference, failing), repeats
    )
    return found.get(word, 0.0)


def at_most(percent, repeats=2000):
    """Four standard errors above a share."""
    return percent + 4 * math.sqrt(percent * (100 - percent) / repeats)


@pytest.mark.parametrize("n", range(2, 6))
def test_a_difference_that_is_not_there_is_rarely_seen(n):
    """Each wrong word in one of forty: the interval misses to either side in 2.5 %."""
    for word in ("seen", "contradicted"):
        assert at_most(0) <= share(word, "above", n, 1.0) <= at_most(2.5)
    assert share("seen", "near", n, 1.0, verdicts.NEARNESS) <= at_most(2.5)
    assert share("contradicted", "near", n, 1.0, verdicts.NEARNESS) <= at_most(2.5)


def test_five_runs_see_two_points():
    """With a deviation of 1 point between differences, five pairs see 2 points in most cases, two pairs seldom."""
    power = [share("seen", "above", n, 1.0, 2.0) for n in range(1, 6)]
    assert power[0] == 0 and power == sorted(power)
    assert power[4] > 85 and power[1] < 30
    # the non-central t distribution of four degrees of freedom at 2 / (1 / sqrt 5), above 2.776
    random = numpy.random.default_rng(1)
    draws = random.normal(2.0, 1.0, (100_000, 5))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(5))
    assert power[4] == pytest.approx(100 * (t > 2.776).mean(), abs=4)


def test_failures_by_chance():
    assert share("seen", "fails", 2, 1.0, failing=0.5) == 0
    assert share("seen", "fails", 3, 1.0, failing=0.5) == pytest.approx(12.5, abs=3)
    assert share("seen", "fails", 3, 1.0, failing=1.0) == 100
    assert share("contradicted", "fails", 3, 1.0, difference=4.0) <= at_most(2.5)


def test_many_comparisons_are_wrong_more_often_than_one():
    one, ten = (simulation.wrong_in_a_family(k, 3, 1.0, repeats=600) for k in (1, 10))
    assert one == pytest.approx(5, abs=3.6) and one + 8 < ten < 50


def test_looking_twice_costs_something():
    found = simulation.shares(lambda random: simulation.then_more(random, "above", 3, 5, 1.0), 2000)
    wrong = found.get("seen", 0) + found.get("contradicted", 0)
    assert 5 < wrong < 10
    assert statistics.fmean(found.values()) <= 100
