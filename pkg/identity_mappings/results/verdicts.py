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
import statistics
from collections import Counter
from dataclasses import dataclass

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

NEARNESS = 2.0  # points of test error: the margin of "near" in the tiers below the paper's
FAILED_RUNS = 3  # of two runs that fail by chance, one time in two each, both do in one of four rows
GRAIN = 0.25  # points: differences are not taken to spread by less; one image of the digits' test set is 0.22

# A run has learnt where its last training loss is below this share of ln(classes), the loss of a guess, and its test
# error is by more than so many points below a guess's.
LOSS_SHARE, POINTS_BELOW_CHANCE = 0.95, 5.0


def quantile(n):
    """Student's t for a 95 % interval from n values; past n = 10 a little wide, never narrow."""
    return T_95.get(n - 1, 2.23)


def interval(values, least=0.0):
    """(mean, half of its 95 % interval) of two values or more; `least`: of the standard deviation."""
    spread = max(statistics.stdev(values), least)
    return statistics.fmean(values), quantile(len(values)) * spread / math.sqrt(len(values))


def chance(classes):
    """The test error of a guess, in percent."""
    return 100.0 * (1 - 1 / classes)


def learnt(record):
    """Whether the run of a record ended, and better than a guess in training loss and in test error."""
    loss, error = record["curve"]["train_loss"][-1], record["test_error"]
    if record["status"] == "diverged" or loss is None:
        return False
    classes = record["recipe"]["network"]["classes"]
    return loss < LOSS_SHARE * math.log(classes) and error < chance(classes) - POINTS_BELOW_CHANCE


@dataclass(frozen=True)
class Outcome:
    """What one run ended with: the value of the quantity that is compared, finite, and whether the run learnt."""

    value: float
    learnt: bool = True


@dataclass(frozen=True)
class Verdict:
    """What runs say of a claim.

    word: "seen", "contradicted", "undecided", "untrained", or "not run". n: pairs of runs, of the comparison with the
    fewest. why: what the word rests on, as a reader is told it.
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
        return Verdict("undecided", n, f"n = 1, {gaps[0]:+.1f}")
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
        return Verdict("undecided", n, f"n = 1, it learns, {gaps[0]:+.1f}")
    mean, half = interval(gaps, least)
    word = "contradicted" if mean + half <= margin else "undecided"
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
    order = ("seen", "contradicted", "undecided", "untrained", "not run")
    counts = ", ".join(f"{words[each]} {each}" for each in order if words[each])
    return Verdict(word, min(ran), f"n = {min(ran)}, of {len(verdicts)}: {counts}")


def runs(n):
    """ "1 run", "3 runs"."""
    return f"{n} run" + "s" * (n != 1)


def plus_minus(mean, half):
    """ "+0.4 ± 1.9": with two digits of the half width, and one decimal at least."""
    decimals = 1 if half <= 0 else max(1, 1 - math.floor(math.log10(half)))
    return f"{mean:+.{decimals}f} ± {half:.{decimals}f}"
