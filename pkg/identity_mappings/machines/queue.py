"""What is worth running next: the rows whose claim is open, and what one more seed of each costs on this machine."""

import statistics
from dataclasses import dataclass

from ..experiments import paper
from ..experiments.protocols import Reduction
from ..experiments.runs import Run, place
from ..results import records
from ..results.verdicts import claimed, verdict

OPEN = ("undecided", "not run")  # the standings that a further run can change, in the order in which it is worth it


@dataclass(frozen=True)
class Candidate:
    """Runs that give a row and its baseline one more seed in common.

    standing: of the row's claim today, one of OPEN. pairs: seeds that both have. seconds: of this machine's device for
    all the runs, None where nothing here says how fast it is.
    """

    row: object
    tier: str
    standing: str
    pairs: int
    runs: tuple
    seconds: float | None

    @property
    def operations(self):
        """Of all the runs' training."""
        return sum(_operations(run) for run in self.runs)

    @property
    def commands(self):
        """The commands that make them, one for each row."""
        return [
            f"python -m identity_mappings train --table {run.row.table} --row {run.row.id} --tier {run.tier} "
            f"--seed {run.seed}"
            for run in self.runs
        ]


def candidates(tier, device=None, results=None):
    """The Candidates of a tier, what is most worth running first.

    A claim that runs left undecided comes before one without runs, and of two alike the cheaper comes first. device: as
    a record names this machine's. Rows that several tables print stand once, and a study's rows have no claims.
    """
    rate = seconds_per_operation(tier, device, results)
    found = {}
    for row in paper.rows():
        if row.claim is None:
            continue
        standing, pairs = standing_of(row, tier, results)
        runs = tuple(_missing(row, tier, results))
        if standing in OPEN and runs:
            seconds = None if rate is None else rate * sum(map(_operations, runs))
            found.setdefault(runs, Candidate(row, tier, standing, pairs, runs, seconds))
    return sorted(found.values(), key=lambda each: (OPEN.index(each.standing), each.operations))


def standing_of(row, tier, results=None):
    """(standing, pairs): "not run", "undecided" or "decided", and how many seeds the row and its baseline share."""
    found = verdict(claimed(row), tier, results=results)
    open_words = ("not run", "undecided")  # an untrained baseline is not mended by one more seed of the row
    return found.word if found.word in open_words else "decided", found.n


def _missing(row, tier, results):
    """The runs that the row and its baseline lack for the first seed that they do not share."""
    recipes = list(dict.fromkeys(place(each, v) for each in (_baseline(row), row) for v in each.networks))
    seed = 0
    while True:
        lacking = [run for run in (Run(*home, tier, seed) for home in recipes) if records.peek(run, results) is None]
        if lacking:
            return lacking
        seed += 1


def _baseline(row):
    (found,) = paper.rows(row.table, [row.baseline])
    return found


def _operations(run):
    """Of a whole run."""
    protocol = run.recipe.protocol
    return run.counts.training_flops * protocol.batch * protocol.iterations


def seconds_per_operation(tier, device, results=None):
    """Of device time, the median over the finished runs that this kind of device has made in the tier; None of none."""
    rates = []
    for row in paper.rows():
        for run in records.runs_of(row, tier, Reduction(), results):
            record = records.peek(run, results)
            if record and record["status"] == "finished" and record["device"] == device:
                rates.append(record["device_seconds"] / _operations(run))
    return statistics.median(rates) if rates else None
