"""How often the verdicts are wrong: runs of a known truth are drawn, and judged by the rule that judges the records.

Errors are normal, in percent; a run that fails ends at a guess. The book's page on the verdicts prints what comes out.
"""

from collections import Counter
from functools import partial

import numpy

from . import verdicts
from .verdicts import Outcome, judge

LEVEL, GUESS = 50.0, 90.0  # percent: where the baseline ends, and a guess among ten classes
REPEATS = 4000
NUMBERS = range(1, 6)


def drawn(random, n, spread, difference=0.0, failing=0.0):
    """Outcomes of n runs: errors around LEVEL + `difference` with a standard deviation, some of them failed."""
    errors = random.normal(LEVEL + difference, spread, n)
    return [Outcome(GUESS, False) if random.random() < failing else Outcome(error) for error in errors]


def verdict(random, relation, n, spread, difference=0.0, failing=0.0):
    """The word for a row and a baseline whose errors differ by `difference`, seed by seed with a deviation `spread`."""
    each = spread / 2**0.5  # a difference of two runs has twice their variance
    return judge(relation, drawn(random, n, each, difference, failing), drawn(random, n, each)).word


def then_more(random, relation, few, more, spread, difference=0.0):
    """The word after `few` runs of each, and where that is undecided, after `more`."""
    each = spread / 2**0.5
    ours, baseline = drawn(random, more, each, difference), drawn(random, more, each)
    word = judge(relation, ours[:few], baseline[:few]).word
    return judge(relation, ours, baseline).word if word == "undecided" else word


def shares(draw, repeats=REPEATS, seed=0):
    """{word: percent} of the words that `draw(random)` gives."""
    random = numpy.random.default_rng(seed)
    found = Counter(draw(random) for _ in range(repeats))
    return {word: 100 * count / repeats for word, count in found.items()}


def wrong_in_a_family(comparisons, n, spread, repeats=REPEATS, seed=0):
    """Percent of tables with a wrong word where no row differs from the baseline, which all comparisons share."""
    random = numpy.random.default_rng(seed)
    each, wrong = spread / 2**0.5, 0
    for _ in range(repeats):
        baseline = drawn(random, n, each)
        wrong += any(judge("above", drawn(random, n, each), baseline).word != "undecided" for _ in range(comparisons))
    return 100 * wrong / repeats


# (what is true, what is claimed, which word is wrong or wanted, its share as a function of n)
def cases():
    """[(what is true of the runs, the claim, the word that is counted, whether that word is right, draw(n))]."""
    near, far = 0.0, verdicts.NEARNESS

    def of(relation, spread, difference=0.0, failing=0.0):
        return lambda n: partial(verdict, relation=relation, n=n, spread=spread, difference=difference, failing=failing)

    lines = []
    for spread in (0.5, 1.0, 2.0):
        wide = f"spread {spread:g}"
        lines += [
            (f"no difference, {wide}", "worse", "seen", False, of("above", spread)),
            (f"no difference, {wide}", "worse", "contradicted", False, of("above", spread)),
            (f"2 points worse, {wide}", "worse", "seen", True, of("above", spread, far)),
            (f"2 points worse, {wide}", "better", "contradicted", True, of("below", spread, far)),
            (f"no difference, {wide}", "near", "seen", True, of("near", spread, near)),
            (f"2 points worse, {wide}", "near", "seen", False, of("near", spread, far)),
            (f"2 points worse, {wide}", "near", "contradicted", False, of("near", spread, far)),
            (f"4 points worse, {wide}", "near", "contradicted", True, of("near", spread, 2 * far)),
        ]
    lines += [
        ("each run fails", "fails", "seen", True, of("fails", 1.0, failing=1.0)),
        ("every other run fails", "fails", "seen", False, of("fails", 1.0, failing=0.5)),
        ("one run in ten fails", "fails", "seen", False, of("fails", 1.0, failing=0.1)),
        ("learns, no difference, spread 1", "fails", "contradicted", True, of("fails", 1.0)),
        ("learns, 4 points worse, spread 1", "fails", "contradicted", False, of("fails", 1.0, 4.0)),
    ]
    return lines
