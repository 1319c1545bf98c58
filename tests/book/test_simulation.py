"""The verdicts on runs of a known truth: how often each word is wrong, and how often it is found."""

import math
import sys
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
import simulation  # noqa: E402

from identity_mappings.results.verdicts import NEARNESS  # noqa: E402

REPEATS = 2000


def share(word, *of, **more):
    return simulation.shares(*of, **more, repeats=REPEATS)[word]


def at_most(percent, repeats=REPEATS):
    """Four standard errors above a share."""
    return percent + 4 * math.sqrt(percent * (100 - percent) / repeats)


@pytest.mark.parametrize("n", range(1, 6))
def test_what_is_not_there_is_rarely_seen(n):
    """Each wrong word in one of forty: the interval misses to either side in 2.5 %."""
    for word in ("seen", "contradicted"):
        assert share(word, "above", n, 1.0) <= (at_most(2.5) if n > 1 else 0)
    for word in ("seen", "contradicted"):  # at the margin itself, the least favourable truth
        assert share(word, "near", n, 1.0, NEARNESS) <= (at_most(2.5) if n > 1 else 0)
    assert share("contradicted", "above", n, 1.0, NEARNESS) <= at_most(0.2)  # the wrong way round


def test_five_runs_see_two_points():
    """With a deviation of 1 point between differences, five pairs see 2 points in most cases, two pairs seldom."""
    power = [share("seen", "above", n, 1.0, 2.0) for n in range(1, 6)]
    assert power[0] == 0 and power == sorted(power)
    assert power[4] > 85 and power[1] < 30
    # Student's t of such differences, drawn apart, is above 2.776 as often
    draws = numpy.random.default_rng(1).normal(2.0, 1.0, (100_000, 5))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(5))
    assert power[4] == pytest.approx(100 * (t > 2.776).mean(), abs=4)


def test_failures_by_chance():
    assert share("seen", "fails", 2, 1.0, failing=0.5) == 0
    assert share("seen", "fails", 3, 1.0, failing=0.5) == pytest.approx(12.5, abs=3)
    assert share("seen", "fails", 3, 1.0, failing=1.0) == 100
    assert share("contradicted", "fails", 3, 1.0, 4.0) <= at_most(2.5)
    assert share("contradicted", "fails", 5, 1.0) > 85


def test_many_comparisons_are_wrong_more_often_than_one():
    one, ten = (simulation.wrong_in_a_table(k, 3, 1.0, repeats=600) for k in (1, 10))
    assert one == pytest.approx(5, abs=3.6)
    assert one + 8 < ten < 40  # less than ten independent ones, for they share a baseline


def test_looking_twice_costs_something():
    assert 5 < simulation.wrong_after_a_second_look(3, 5, 1.0, REPEATS) < 10


def test_the_pages_tables():
    for table in (simulation.orderings(20), simulation.nearness(20), simulation.failures(20), simulation.many(20)):
        head, rule, *lines = [line for line in table.splitlines() if line.startswith("|")]
        assert lines and all(line.count("|") == head.count("|") for line in lines)
