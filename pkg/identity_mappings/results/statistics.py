"""What the runs of a row add up to: medians and spreads, intervals, and the verdict beside the paper's number."""

import math
import statistics
from dataclasses import dataclass

from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from . import records

# Two-sided 95 % quantiles of Student's t by degrees of freedom; the paper's n of 5 and a little beyond is all we need.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

# An interval wider than this, in percentage points to each side, cannot tell the paper's rows apart.
RESOLUTION = 0.5

# A small tier's row counts as near its baseline when it is no more than this above it, in percentage points.
NEARNESS = 2.0


def _quantile(n):
    """Student's t for a 95 % interval from n values; past n = 10 a little wide, never narrow."""
    return T_95.get(n - 1, 2.23)


@dataclass(frozen=True)
class Summary:
    """What the runs of one row and tier add up to. Errors are percent on the test set at the last iteration.

    errors: one a run, ascending; a diverged run counts as infinite. records: the records behind them.
    """

    row: object
    tier: str
    errors: tuple
    records: tuple

    @property
    def n(self):
        return len(self.errors)

    @property
    def diverged(self):
        return sum(math.isinf(error) for error in self.errors)

    @property
    def median(self):
        """Percent, as the paper reports it; None without runs."""
        return statistics.median(self.errors) if self.errors else None

    @property
    def spread(self):
        """(mean, standard deviation) in percent of two runs or more that all ended; else None."""
        if self.n < 2 or self.diverged:
            return None
        return statistics.mean(self.errors), statistics.stdev(self.errors)

    @property
    def half_width(self):
        """Half of the 95 % interval, in points, for our median less the paper's; None below two runs.

        Both medians vary: ours over n runs and the paper's over 5 (of Table 5 over one, for all that it says), with the
        standard deviation of our runs for both. A median's variance is pi/2 times a mean's.
        """
        if self.spread is None:
            return None
        both = 1 / self.n + 1 / self.row.published.runs
        return _quantile(self.n) * self.spread[1] * math.sqrt(math.pi / 2 * both)

    @property
    def top5(self):
        """The median of the top-5 errors in percent; None without runs, and where it is not taken."""
        found = [self.row.errors(record)[1] for record in self.records if record["status"] == "finished"]
        return statistics.median(found) if found and None not in found else None

    @property
    def fails(self):
        """Whether the median is what Table 1, and only it, calls "fail": above 20 %."""
        return self.row.table == 1 and self.median is not None and self.median > FAIL_ABOVE

    def error(self):
        """The result as a table prints it: the median, then mean ± standard deviation in brackets; never blank.

        On ImageNet the median top-5 error follows after a stroke, as the paper writes it.
        """
        if not self.n:
            return "not run"
        if math.isinf(self.median):
            return "fail" if self.fails else "diverged"
        spread = f" ({self.spread[0]:.2f} ± {self.spread[1]:.2f})" if self.spread else ""
        top5 = "" if self.top5 is None else f" / {self.top5:.2f}"
        return f"{'fail: ' if self.fails else ''}{self.median:.2f}{spread}{top5}"

    def runs(self):
        """The number of runs behind the result, with those that diverged."""
        return f"{self.n} ({self.diverged} diverged)" if self.diverged else str(self.n)

    def __str__(self):
        return f"{self.error()}, n = {self.runs()}" if self.n else self.error()

    def verdict(self, baseline=None):
        """How the result stands to the paper.

        Paper tier, against the paper's number: "consistent", "differs", or "underpowered" with the interval.
        Smaller tiers, whose numbers are not the paper's: whether what the paper says of this row against its baseline
        (a Summary of the same tier) is "seen" or "not seen".
        """
        if not self.n:
            return "not run"
        if self.tier == "paper":
            return self._against_the_paper()
        claim = self.row.claim
        if claim is None:
            return "baseline" if self.row.baseline is None else ""
        if claim == "fails":
            if self.fails and baseline is not None and baseline.fails:
                return f"fails, but so does {self.row.baseline}: says nothing"
            return f"fails: {seen_or_not(self.fails)}"
        if baseline is None or not baseline.n:
            return f"{claim} than {self.row.baseline}: baseline not run"
        gap = self.median - baseline.median if not math.isinf(self.median) else math.inf
        if math.isinf(self.median) and math.isinf(baseline.median):
            gap = 0.0
        shown = {"worse": gap > 0, "better": gap <= 0, "near": gap <= NEARNESS}[claim]
        relation = "near" if claim == "near" else f"{claim} than"
        return f"{relation} {self.row.baseline}: {seen_or_not(shown)}"

    def _against_the_paper(self):
        published = self.row.published
        if published.fails or self.fails:
            return "consistent" if published.fails == self.fails else "differs"
        if self.half_width is None and not math.isinf(self.median):
            return f"underpowered (n={self.n}: no interval)"
        gap = self.median - published.error
        if math.isinf(gap):
            return "differs"
        if abs(gap) > self.half_width:
            return "differs"
        if self.half_width <= RESOLUTION:
            return "consistent"
        return f"underpowered ({gap:+.2f} ± {self.half_width:.2f})"


def difference(ours, baseline):
    """(mean, half of its 95 % interval) of the errors of `ours` less those of `baseline`, in points, paired by seed.

    Both are Summaries of rows that differ in one choice, so that a seed gives both the same batches. None below two
    pairs, and where a run of a pair diverged.
    """
    errors = [{record["seed"]: each.row.errors(record)[0] for record in each.records} for each in (ours, baseline)]
    if ours.diverged or baseline.diverged:
        return None
    gaps = [errors[0][seed] - errors[1][seed] for seed in errors[0].keys() & errors[1].keys()]
    return interval(gaps) if len(gaps) >= 2 else None


def interval(values):
    """(mean, half of its 95 % interval) of two values or more."""
    return statistics.mean(values), _quantile(len(values)) * statistics.stdev(values) / math.sqrt(len(values))


def summarise(row, tier, reduction=Reduction(), results=None):
    """The `Summary` of a row's records in a tier. A row of several variants counts each variant's runs."""
    found = [records.read(run, results) for run in records.runs_of(row, tier, reduction, results)]
    errors = [math.inf if record["status"] == "diverged" else row.errors(record)[0] for record in found]
    return Summary(row, tier, tuple(sorted(errors)), tuple(found))


def seen_or_not(shown):
    """How a tier's verdict says whether its runs show what the paper states."""
    return "seen" if shown else "not seen"
