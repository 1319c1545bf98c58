"""What runs say of a claim: the one rule that tables, notebooks, ledger, captions and README share.

A claim says of a row that it lies "above" its baseline in some quantity, "below" it or "near" it, or that it "fails".
Runs of the two rows are paired by seed, which gives both the same batches, and the 95 % interval of the mean
difference decides:

above, below   seen where the interval lies on the side that the claim names, contradicted where it lies on the other
near           seen where it lies within the margin on both sides, contradicted where it lies beyond the margin
fails          seen where every run, of FAILED_RUNS or more, diverges or stays at a guess while its baseline learns;
               contradicted where every run learns and the interval lies below the margin: no worse than near

All else is undecided, as one run always is. Where a run of the baseline did not learn, nothing is said: "untrained".
A row that learns, but ends far above its baseline, neither fails as the paper says nor shows the contrary: undecided.
"""

import math
from collections import Counter
from dataclasses import dataclass

from ..experiments import paper
from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from ..experiments.runs import place
from .quantities import ERROR, Quantity
from .statistics import classes, interval, learnt, quantile

NEARNESS = 2.0  # points of test error: the margin of "near" in the tiers below the paper's
FAILED_RUNS = 3  # of two runs that fail by chance, one time in two each, both do in one of four rows
GRAIN = 0.25  # points: differences are not taken to spread by less; one image of the digits' test set is 0.22
RESOLUTION = 0.5  # points: a wider interval cannot tell the paper's rows apart

WORDS = ("seen", "contradicted", "undecided", "untrained", "not run")

RELATIONS = {"worse": "above", "better": "below", "near": "near", "fails": "fails"}  # of a row's claim


@dataclass(frozen=True)
class Outcome:
    """What one run ended with: the value of the quantity that is compared, finite, and whether the run learnt."""

    value: float
    learnt: bool = True


@dataclass(frozen=True)
class Verdict:
    """What runs say of a claim.

    word: one of WORDS, or beside the paper's number "consistent", "differs" or "underpowered". n: pairs of runs, of the
    comparison with the fewest. why: what the word rests on, as a reader is told it.
    """

    word: str
    n: int = 0
    why: str = ""

    def __str__(self):
        return f"{self.word} ({self.why})" if self.why else self.word


NOT_RUN = Verdict("not run")


def judge(relation, ours, baseline, margin=NEARNESS, least=GRAIN):
    """The Verdict on a claim of that `relation`, from the Outcomes of a row and of its baseline, seed by seed.

    baseline: an Outcome a seed, or where the claim compares differences, the tuple of all that must have learnt; its
    value is then what `ours` is compared with. margin: of "near", in the quantity's unit. least: as `interval` has it.
    """
    n = len(ours)
    if not n:
        return NOT_RUN
    without = sum(not base.learnt for base in baseline)
    if without:
        return Verdict("untrained", n, f"its baseline in {without} of {runs(n)}")
    gaps = [one.value - base.value for one, base in zip(ours, baseline, strict=True)]
    if relation == "fails":
        return _failure(gaps, [one.learnt for one in ours], margin, least)
    if n == 1:
        return Verdict("undecided", n, f"n = 1, {signed(gaps[0])}")
    mean, half = interval(gaps, least)
    return Verdict(decided(relation, mean - half, mean + half, margin), n, f"n = {n}, {plus_minus(mean, half)}")


def decided(relation, low, high, margin):
    """The word for a claim about a difference, from its interval."""
    if relation == "near":
        if -margin <= low and high <= margin:
            return "seen"
        return "contradicted" if low > margin or high < -margin else "undecided"
    low, high = (low, high) if relation == "above" else (-high, -low)
    return "seen" if low > 0 else "contradicted" if high < 0 else "undecided"


def _failure(gaps, learnt, margin, least):
    n, failed = len(gaps), learnt.count(False)
    if failed:
        word = "seen" if failed == n >= FAILED_RUNS else "undecided"
        return Verdict(word, n, f"{failed} of {runs(n)} failed")
    if n == 1:
        return Verdict("undecided", n, f"n = 1, it learns, {signed(gaps[0])}")
    mean, half = interval(gaps, least)
    word = "contradicted" if mean + half <= margin and n >= FAILED_RUNS else "undecided"
    return Verdict(word, n, f"n = {n}, it learns, {plus_minus(mean, half)}")


def together(verdicts):
    """The Verdict on a claim that says several things: seen where all are, contradicted where one is."""
    if len(verdicts) == 1:
        return verdicts[0]
    words = Counter(verdict.word for verdict in verdicts)
    ran = [verdict.n for verdict in verdicts if verdict.n]
    if not ran:
        return NOT_RUN
    if words["contradicted"]:
        word = "contradicted"
    elif words["seen"] == len(verdicts):
        word = "seen"
    else:
        word = "untrained" if words["untrained"] == len(ran) else "undecided"
    counts = ", ".join(f"{words[each]} {each}" for each in WORDS if words[each])
    return Verdict(word, min(ran), f"n = {min(ran)}, of {len(verdicts)}: {counts}")


def runs(n):
    """ "1 run", "3 runs"."""
    return f"{n} run" + "s" * (n != 1)


def plus_minus(mean, half):
    """ "+0.4 ± 1.9": with two digits of the half width, within one to three decimals."""
    return f"{mean:+.{_decimals(half)}f} ± {half:.{_decimals(half)}f}"


def signed(value):
    """ "+0.4": with two digits, within one to three decimals."""
    return f"{value:+.{_decimals(value)}f}"


def _decimals(value):
    return min(3, max(1, 1 - math.floor(math.log10(abs(value))))) if value else 1


# --- of rows and their records


@dataclass(frozen=True)
class Comparison:
    """That `row` is above, below or near `base` in a quantity, or that it fails where `base`, its baseline, does not.

    Both are ids of rows of `table`. rest: another (row, base): the claim is then that the distance of the first two
    is above, or below, that of these.
    """

    table: int | str
    row: str
    relation: str  # "above", "below", "near" or "fails"
    base: str
    quantity: Quantity = ERROR
    rest: tuple | None = None

    def __str__(self):
        row, base, *rest = (f"*{each.name()}*" for each in self.rows)
        if self.relation == "fails":
            return f"{row} fails"
        other = base + (" by more than {} below {}".format(*rest) if rest else "")
        measured = "" if self.quantity is ERROR else f" in {self.quantity.name}"
        return f"{row} {self.relation} {other}{measured}"

    @property
    def rows(self):
        """The rows that are compared: `row`, `base`, and those of `rest`."""
        return paper.rows(self.table, [self.row, self.base, *(self.rest or ())])


def claimed(row):
    """The Comparison that a row's own claim makes; None for a row without one."""
    return Comparison(row.table, row.id, RELATIONS[row.claim], row.baseline) if row.claim else None


def verdict(comparison, tier, reduction=Reduction(), results=None):
    """The Verdict on a comparison in one tier; on a row of several recipes, of all of them together."""
    return together(verdicts(comparison, tier, reduction, results))


def verdicts(comparison, tier, reduction=Reduction(), results=None):
    """A Verdict for each recipe of the comparison's row, in the order of the row."""
    first, *others = comparison.rows
    fails = comparison.relation == "fails"
    rest = [_outcomes(comparison.quantity, row, tier, reduction, results)[0] for row in others]
    ours = _outcomes(comparison.quantity, first, tier, reduction, results, fails)
    # an error below 20 % is no failure in the paper's protocol, however far above the baseline's it is
    margin = NEARNESS if tier != "paper" else math.inf if fails else resolution(first)
    least = GRAIN if tier != "paper" and comparison.quantity is ERROR else 0.0
    return [judge(comparison.relation, *_paired(each, *rest), margin, least) for each in ours]


def _outcomes(quantity, row, tier, reduction, results, fails=False):
    """[{seed: Outcome}] for each recipe of a row. fails: whether a run has learnt where it has not failed."""

    def outcome(record):
        """A run that diverged counts as a guess."""
        value = quantity.of(record)
        value = value if math.isfinite(value) else quantity.guess(classes(record))
        return Outcome(value, not has_failed(record, tier) if fails else learnt(record))

    return [
        {record["seed"]: outcome(record) for record in summary.records}
        for summary in quantity.summaries(row, tier, reduction, results)
    ]


def has_failed(record, tier):
    """Whether a run fails as Table 1 has it: in the paper tier above 20 %, in others where it has not learnt."""
    if tier == "paper":
        return record["status"] == "diverged" or record["test_error"] > FAIL_ABOVE
    return not learnt(record)


def _paired(ours, baseline, *rest):
    """Outcomes of a row and of what it is compared with, for the seeds that all have, ascending."""
    seeds = sorted(set(ours).intersection(baseline, *rest))
    if not rest:
        return [ours[seed] for seed in seeds], [baseline[seed] for seed in seeds]
    shifted = [
        Outcome(baseline[s].value + rest[0][s].value - rest[1][s].value, all(o[s].learnt for o in (baseline, *rest)))
        for s in seeds
    ]
    return [ours[seed] for seed in seeds], shifted


def words(row, verdict):
    """A Verdict on a row's own claim as tables print it: "worse than original: seen (n = 3, +8.1 ± 1.2)"."""
    relation = {"fails": "fails", "near": f"near {row.baseline}"}.get(row.claim, f"{row.claim} than {row.baseline}")
    return f"{relation}: {verdict}"


def of_baseline(summary):
    """What is said of a row that others are compared with: whether its runs have learnt."""
    without = sum(not learnt(record) for record in summary.records)
    return f"baseline, untrained in {without} of {runs(summary.n)}" if without else "baseline"


# --- of the paper tier's numbers beside the paper's


def resolution(row):
    """The half width, in points, that an interval of this row may have to say anything about the paper's number.

    RESOLUTION, or where the paper tells rows apart by less, the smallest distance by which it calls one of them worse
    or better than their baseline: among the rows compared with the same baseline, in every table that has the recipe.
    """
    home = place(row, next(iter(row.networks)))
    same = [other for other in paper.rows() if other.published and place(other, next(iter(other.networks))) == home]
    return min([RESOLUTION, *(gap for one in same for gap in _gaps_beside(one))])


def _gaps_beside(row):
    """The paper's distances from a row's baseline, or from the row if it is one, to what it calls worse or better."""
    baseline = row.baseline or row.id
    (base,) = paper.rows(row.table, [baseline])
    beside = [one for one in paper.rows(row.table) if one.baseline == baseline and one.claim in ("worse", "better")]
    return [abs(one.published.error - base.published.error) for one in beside]


def beside_the_paper(summary):
    """The Verdict on a paper-tier row's number: "consistent", "differs" or "underpowered" beside the paper's."""
    published, n = summary.row.published, summary.n
    if not n:
        return NOT_RUN
    bound = FAIL_ABOVE if summary.row.table == 1 else math.inf
    failed = sum(error > bound or math.isinf(error) for error in summary.errors)
    if published.fails or failed:
        why = f"{failed} of {runs(n)} failed"
        if n < FAILED_RUNS or failed not in (0, n):
            return Verdict("underpowered", n, why)
        return Verdict("consistent" if published.fails == bool(failed) else "differs", n, why)
    if n == 1:
        return Verdict("underpowered", n, "n = 1: no interval")
    gap, half = from_the_paper(summary)
    narrow = half <= resolution(summary.row)
    word = "differs" if abs(gap) > half else "consistent" if narrow else "underpowered"
    return Verdict(word, n, f"n = {n}, {plus_minus(gap, half)}")


def from_the_paper(summary):
    """(difference, half of its 95 % interval) of our result less the paper's, in points, of two runs or more.

    Both vary: ours over n runs and the paper's over its own. Where it prints mean and deviation, these are compared
    with ours, and t has the degrees of freedom of the fewer runs. Elsewhere it prints a median only: medians are
    compared, of which the variance is pi/2 times a mean's, with the deviation of our runs for both.
    """
    (mean, spread), published, n = summary.spread, summary.row.published, summary.n
    if published.mean is not None:
        variance = spread**2 / n + published.std**2 / published.runs
        return mean - published.mean, quantile(min(n, published.runs)) * math.sqrt(variance)
    both = 1 / n + 1 / published.runs
    return summary.median - published.error, quantile(n) * spread * math.sqrt(math.pi / 2 * both)
