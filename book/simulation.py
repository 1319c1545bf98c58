"""How often the verdicts are wrong: runs of a known truth are drawn, and judged by the rule that judges the records.

Errors are normal, in percent; a run that fails ends at a guess. The page on the verdicts prints what comes out.
"""

from collections import Counter

import numpy

from identity_mappings import grids
from identity_mappings.results.verdicts import FAILED_RUNS, NEARNESS, Outcome, judge

LEVEL, GUESS = 50.0, 90.0  # percent: where the baseline ends, and a guess among ten classes
REPEATS = 2000
RUNS = (2, 3, 4, 5)
SPREADS = (0.5, 1.0, 2.0)  # points, of the differences of two runs of one seed


def drawn(random, n, spread, difference=0.0, failing=0.0):
    """Outcomes of n runs: errors around LEVEL + `difference` with a standard deviation, some of them failed."""
    errors = random.normal(LEVEL + difference, spread, n)
    return [Outcome(GUESS, False) if random.random() < failing else Outcome(error) for error in errors]


def word(random, relation, n, spread, difference=0.0, failing=0.0):
    """The word for a row and a baseline whose errors differ by `difference`, seed by seed with a deviation `spread`."""
    each = spread / 2**0.5  # a difference of two runs has twice their variance
    return judge(relation, drawn(random, n, each, difference, failing), drawn(random, n, each)).word


def shares(relation, n, spread, difference=0.0, failing=0.0, repeats=REPEATS):
    """{word: percent of the verdicts} on so many draws."""
    random = numpy.random.default_rng(n)
    found = Counter(word(random, relation, n, spread, difference, failing) for _ in range(repeats))
    return Counter({each: 100 * count / repeats for each, count in found.items()})


def wrong_after_a_second_look(few, more, spread, repeats=REPEATS):
    """Percent of wrong words where there is no difference, if what `few` runs leave undecided is judged again."""
    random, each, wrong = numpy.random.default_rng(0), spread / 2**0.5, 0
    for _ in range(repeats):
        ours, baseline = drawn(random, more, each), drawn(random, more, each)
        looks = (judge("above", ours[:n], baseline[:n]).word for n in (few, more))
        wrong += any(one != "undecided" for one in looks)
    return 100 * wrong / repeats


def wrong_in_a_table(comparisons, n, spread, repeats=REPEATS // 2):
    """Percent of tables with a wrong word where no row differs from the baseline that all are compared with."""
    random, each, wrong = numpy.random.default_rng(0), spread / 2**0.5, 0
    for _ in range(repeats):
        baseline = drawn(random, n, each)
        wrong += any(judge("above", drawn(random, n, each), baseline).word != "undecided" for _ in range(comparisons))
    return 100 * wrong / repeats


def orderings(repeats=REPEATS):
    """A Markdown table: the claim that a row is worse, where it is 0 or 2 points worse."""
    header = ("the truth", "spread", "word", *(f"n = {n}" for n in RUNS))
    cases = ((0.0, "seen", "wrong"), (0.0, "contradicted", "wrong"), (NEARNESS, "seen", "right"))
    caption = "A row is said to be *worse*: how often each word is said, by the true difference and the spread."
    return grids.captioned(caption, header, _lines("above", cases, repeats))


def nearness(repeats=REPEATS):
    """A Markdown table: the claim that a row is near, where it is 0, 2 (the margin) or 4 points worse."""
    header = ("the truth", "spread", "word", *(f"n = {n}" for n in RUNS))
    cases = (
        (0.0, "seen", "right"),
        (NEARNESS, "seen", "wrong"),
        (NEARNESS, "contradicted", "wrong"),
        (2 * NEARNESS, "contradicted", "right"),
    )
    caption = "A row is said to be *near*: how often each word is said, by the true difference and the spread."
    return grids.captioned(caption, header, _lines("near", cases, repeats))


def _lines(relation, cases, repeats):
    lines = []
    for difference, counted, right in cases:
        for spread in SPREADS:
            found = [shares(relation, n, spread, difference, repeats=repeats)[counted] for n in RUNS]
            truth = f"{difference:g} points worse" if difference else "no difference"
            lines.append((truth, f"{spread:g}", f"{counted} ({right})", *(f"{each:.1f} %" for each in found)))
    return lines


def failures(repeats=REPEATS):
    """A Markdown table: the claim that a row fails, where some, all or none of its runs do. Spread 1 point."""
    cases = (
        ("every run fails", 0.0, 1.0, "seen (right)"),
        ("each run fails in one case of two", 0.0, 0.5, "seen (wrong)"),
        ("each run fails in one case of ten", 0.0, 0.1, "seen (wrong)"),
        ("it learns as well as its baseline", 0.0, 0.0, "contradicted (right)"),
        ("it learns, and ends 4 points worse", 2 * NEARNESS, 0.0, "contradicted (wrong)"),
    )
    lines = []
    for truth, difference, failing, counted in cases:
        found = [shares("fails", n, 1.0, difference, failing, repeats)[counted.partition(" ")[0]] for n in RUNS]
        lines.append((truth, counted, *(f"{each:.1f} %" for each in found)))
    caption = "A row is said to *fail*: how often each word is said, with a spread of one point."
    return grids.captioned(caption, ("the truth", "word", *(f"n = {n}" for n in RUNS)), lines)


def many(repeats=REPEATS):
    """A Markdown table: what many comparisons, and looking twice, do to the share of wrong words. Spread 1 point."""
    alone = shares("above", FAILED_RUNS, 1.0, repeats=repeats)
    twice = wrong_after_a_second_look(3, 5, 1.0, repeats)
    lines = [
        ("one comparison, three runs", f"{alone['seen'] + alone['contradicted']:.1f} %"),
        ("one comparison, three runs, and five where three do not decide", f"{twice:.1f} %"),
        *(
            (f"a table of {k} comparisons, three runs", f"{wrong_in_a_table(k, 3, 1.0, repeats // 2):.0f} %")
            for k in (4, 10)
        ),
    ]
    caption = "How often at least one word is wrong, with a spread of one point."
    return grids.captioned(caption, ("no row differs from its baseline", "a wrong word somewhere"), lines)


def _in_a_table(comparisons, repeats):
    return wrong_in_a_table(comparisons, FAILED_RUNS, 1.0, repeats // 2)
