"""What is worth running next: the rows whose claim is open, and what one more seed of each costs on this machine."""

from dataclasses import dataclass

from ..experiments import paper
from ..experiments.runs import Run, place
from ..results import costs, records
from ..results.verdicts import claimed, verdict

OPEN = ("undecided", "not run")  # the standings that a further run can change, in the order in which it is worth it


@dataclass(frozen=True)
class Candidate:
    """Runs that give a row and its baseline one more seed in common.

    standing: of the row's claim today, one of OPEN. pairs: seeds that both have. seconds: of this machine's device for
    all the runs, by `costs.estimate`; None where no record here is of it. source: the farthest of `costs.SOURCES` that
    the seconds come from, None with them.
    """

    row: object
    tier: str
    standing: str
    pairs: int
    runs: tuple
    seconds: float | None
    source: str | None

    @property
    def multiply_adds(self):
        """Of all the runs."""
        return sum(run.multiply_adds for run in self.runs)

    @property
    def commands(self):
        """The commands that make them, one for each row."""
        return [
            f"python -m identity_mappings train --table {run.row.table} --row {run.row.id} --tier {run.tier} "
            f"--seed {run.seed}"
            for run in self.runs
        ]


def candidates(tier, device=None, precision="fp32", results=None):
    """The Candidates of a tier, what is most worth running first.

    A claim that runs left undecided comes before one without runs, and of two alike the cheaper comes first. device: as
    a record names this machine's; the seconds are of it in `precision`. Rows that several tables print stand once, and
    a study's rows have no claims.
    """
    known, found = costs.costs(results), {}
    for row in paper.rows():
        if row.claim is None:
            continue
        standing, pairs = standing_of(row, tier, results)
        runs = tuple(_missing(row, tier, results))
        if standing in OPEN and runs:
            about = _cost([costs.estimate(run, device, precision, known) for run in runs])
            found.setdefault(runs, Candidate(row, tier, standing, pairs, runs, *about))
    return sorted(found.values(), key=lambda each: (OPEN.index(each.standing), each.multiply_adds))


def _cost(estimates):
    """(seconds of all, the source that is least like them); (None, None) where one is not known."""
    each, sources = zip(*estimates, strict=True)
    return (None, None) if None in each else (sum(each), max(sources, key=costs.SOURCES.index))


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
