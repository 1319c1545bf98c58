"""What the runs of a row add up to: medians, spreads, intervals, and which runs have learnt anything.

What they say of the paper is in `verdicts`.
"""

import math
import statistics
from dataclasses import dataclass

from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from . import records

# Two-sided 95 % quantiles of Student's t by degrees of freedom; the paper's n of 5 and a little beyond is all we need.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

# A run has learnt where its last training loss is below this share of ln(classes), the loss of a guess, and its test
# error is by more than so many points below a guess's.
LOSS_SHARE, POINTS_BELOW_CHANCE = 0.95, 5.0


def quantile(n):
    """Student's t for a 95 % interval from n values; past n = 10 a little wide, never narrow."""
    return T_95.get(n - 1, 2.23)


def interval(values, least=0.0):
    """(mean, half of its 95 % interval) of two values or more. least: what their standard deviation is taken for."""
    spread = max(statistics.stdev(values), least)
    return statistics.fmean(values), quantile(len(values)) * spread / math.sqrt(len(values))


def classes(record):
    """The number of classes among which a record's run had to choose."""
    return record["recipe"]["network"]["classes"]


def chance(of):
    """The test error of a guess among so many classes, in percent."""
    return 100.0 * (1 - 1 / of)


def learnt(record):
    """Whether a record's run ended, and better than a guess in training loss and in test error."""
    loss, error, of = record["curve"]["train_loss"][-1], record["test_error"], classes(record)
    if record["status"] == "diverged" or loss is None:
        return False
    return loss < LOSS_SHARE * math.log(of) and error < chance(of) - POINTS_BELOW_CHANCE


@dataclass(frozen=True)
class Summary:
    """What the runs of one recipe of a row and tier add up to.

    errors: percent on the test set at the last iteration, one per run, ascending; a diverged run counts as infinite.
    records: the records behind them. variant: which of the row's recipes, where it sums up several.
    """

    row: object
    tier: str
    errors: tuple
    records: tuple
    variant: str = ""

    @property
    def name(self):
        """The row's id, with the variant behind a stroke."""
        return f"{self.row.id}/{self.variant}" if self.variant else self.row.id

    @property
    def setting(self):
        """What sets the variant apart, the bias that its gate starts from: "-3"."""
        return str(dict(self.row.networks[self.variant].shortcut.options)["bias"])

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
        return statistics.fmean(self.errors), statistics.stdev(self.errors)

    @property
    def top5(self):
        """The median of the top-5 errors in percent; None without runs, and where it is not taken."""
        if not self.row.crop:
            return None
        found = [self.row.errors(record)[1] for record in self.records if record["status"] == "finished"]
        return statistics.median(found) if found and None not in found else None

    @property
    def fails(self):
        """Whether the median is what Table 1, and only it, calls "fail": above 20 % in the paper's protocol."""
        return self.tier == "paper" and self.row.table == 1 and self.n > 0 and self.median > FAIL_ABOVE

    def error(self):
        """The result as a table prints it: the median, then mean ± standard deviation in brackets; never blank.

        On ImageNet the median top-5 error follows after a stroke, as the paper writes it.
        """
        if not self.n:
            return "not run"
        if math.isinf(self.median):
            return "fail" if self.fails else "diverged"
        spread = "{:.2f} ({:.2f} ± {:.2f})".format(self.median, *self.spread) if self.spread else f"{self.median:.2f}"
        top5 = "" if self.top5 is None else f" / {self.top5:.2f}"
        return f"{'fail: ' if self.fails else ''}{spread}{top5}"

    def runs(self):
        """The number of runs behind the result, with those that diverged."""
        return f"{self.n} ({self.diverged} diverged)" if self.diverged else str(self.n)

    def __str__(self):
        return f"{self.error()}, n = {self.runs()}" if self.n else self.error()


def difference(ours, baseline):
    """(mean, half of its 95 % interval) of the errors of `ours` less those of `baseline`, in points, paired by seed.

    Both are Summaries of rows that differ in one choice, so that a seed gives both the same batches. None below two
    pairs, and where a run of a pair diverged.
    """
    if ours.diverged or baseline.diverged:
        return None
    found = gaps(ours, baseline)
    return interval(found) if len(found) >= 2 else None


def gaps(ours, baseline, counts=lambda record: record["status"] == "finished"):
    """The errors of `ours` less those of `baseline`, in points, seed by seed, over the seeds that both have.

    counts(record): whether a record does.
    """
    errors = [{r["seed"]: r["test_error"] for r in summary.records if counts(r)} for summary in (ours, baseline)]
    return [errors[0][seed] - errors[1][seed] for seed in sorted(errors[0].keys() & errors[1].keys())]


def summaries(row, tier, reduction=Reduction(), results=None):
    """A `Summary` for each of the row's recipes, from its records in a tier: several only for a row of several."""
    return [_summary(row, variant, tier, reduction, results) for variant in row.networks]


def _summary(row, variant, tier, reduction, results):
    runs = records.runs_of(row, tier, reduction, results, [variant])
    found = [row.tested(records.read(run, results)) for run in runs]
    errors = [math.inf if record["status"] == "diverged" else record["test_error"] for record in found]
    return Summary(row, tier, tuple(sorted(errors)), tuple(found), variant)


def summarise(row, tier, reduction=Reduction(), results=None):
    """The `Summary` of a row that has one recipe."""
    (only,) = summaries(row, tier, reduction, results)
    return only
