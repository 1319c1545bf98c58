"""What one row gave on different devices, and where two of them disagree beyond their spreads."""

import math
import statistics
from dataclasses import dataclass
from itertools import combinations

from .. import grids
from ..experiments import paper
from ..experiments.protocols import Reduction
from ..results import records
from ..results.statistics import interval


@dataclass(frozen=True)
class Pair:
    """One row's errors on two kinds of device, by what each record names: device and precision.

    errors: percent at the last iteration, one list for each of `devices`; diverged runs are left out.
    """

    row: object
    tier: str
    reduction: Reduction
    devices: tuple
    errors: tuple

    @property
    def gap(self):
        """The first device's mean less the second's, in points."""
        return statistics.mean(self.errors[0]) - statistics.mean(self.errors[1])

    @property
    def half_width(self):
        """Half of the 95 % interval of the gap, in points, from both spreads; None where a device has a single run."""
        if min(map(len, self.errors)) < 2:
            return None
        return math.hypot(*(interval(errors)[1] for errors in self.errors))

    @property
    def verdict(self):
        """Whether the two agree: the interval holds zero, or does not, or there is none."""
        if self.half_width is None:
            return "too few runs to tell"
        return "disagree" if abs(self.gap) > self.half_width else "agree"


def pairs(results=None):
    """A `Pair` for each row, tier, reduction and two devices that both ran it; a recipe that rows share stands once."""
    found = {}
    for row in paper.rows():
        for tier, reduction in records.settings([row], results):
            runs = {run.record_path(results): run for run in records.runs_of(row, tier, reduction, results)}
            if len({(run.row.id, run.variant) for run in runs.values()}) > 1:
                continue  # a row that sums up several settings: its spread is not that of seeds
            errors = {}
            for run in runs.values():
                record = records.read(run, results)
                if record["status"] == "finished":
                    errors.setdefault((record["device"], record["precision"]), []).append(record["test_error"])
            for two in combinations(sorted(errors), 2):
                key = (next(iter(runs)).parent, two)
                found.setdefault(key, Pair(row, tier, reduction, two, tuple(errors[each] for each in two)))
    return list(found.values())


def markdown(results=None):
    """The pairs as a Markdown table, those that disagree first; or that there are none."""
    made = sorted(pairs(results), key=lambda pair: ("disagree", "agree").index(pair.verdict) if pair.half_width else 2)
    if not made:
        return "No row has runs of two kinds of device yet."
    lines = []
    for pair in made:
        cut = f" at {pair.reduction}" if pair.reduction.name else ""
        about = f"{paper.label(pair.row.table)}, {pair.row.case}{cut} ({pair.tier})"
        cells = [
            f"{name}, {precision}: {statistics.mean(errors):.2f} (n = {len(errors)})"
            for (name, precision), errors in zip(pair.devices, pair.errors, strict=True)
        ]
        gap = f"{pair.gap:+.2f}" + ("" if pair.half_width is None else f" ± {pair.half_width:.2f}")
        lines.append((about, *cells, gap, pair.verdict))
    caption = "Rows that two kinds of device ran: those whose interval leaves zero out come first, and disagree."
    return grids.captioned(caption, ("row", "one device", "another", "difference, points", ""), lines)


def contributors(results=None):
    """Who contributed how many of the records here, on what, as a Markdown table; or that nobody has yet."""
    found = {}
    for row in paper.rows():
        for tier, reduction in records.settings([row], results):
            for run in records.runs_of(row, tier, reduction, results):
                record = records.read(run, results)
                if given := record.get("contributed"):
                    who = (given["by"] or "no name given", record["device"], record["precision"])
                    found.setdefault(who, set()).add(run.record_path(results))
    if not found:
        return "No run has been contributed yet."
    lines = [(*who, len(paths)) for who, paths in sorted(found.items())]
    caption = "Who contributed how many of the runs in this book, and on what device."
    return grids.captioned(caption, ("by", "device", "precision", "runs"), lines, right=1)
