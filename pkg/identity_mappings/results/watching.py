"""What the watched runs of a row add up to. They are made by

python -m identity_mappings watch --table 3 --row cifar10-164-original

and each has a record beside the run's own; `training.watched` says what is in it.
"""

from dataclasses import dataclass, replace

from ..experiments.protocols import Reduction
from ..experiments.runs import Run, place
from . import records


@dataclass(frozen=True)
class Seen:
    """What the watched runs of one row in one tier add up to; `records` has one a run, those that diverged left out."""

    row: object
    tier: str
    records: tuple
    diverged: int = 0

    @property
    def n(self):
        return len(self.records)


def seen(row, tier, reduction=Reduction(), results=None):
    """The `Seen` of a row."""
    found = []
    for variant in row.networks:
        first = Run(*place(row, variant), tier, 0, reduction, watched=True)
        found += [records.read(replace(first, seed=seed), results) for seed in first.seeds(results, (".json",))]
    ended = tuple(record for record in found if record["status"] == "finished")
    return Seen(row, tier, ended, len(found) - len(ended))


def share_truncated(record):
    """The share of y_l that f sets to zero when training ends, the mean over the units."""
    last = record["units"][-1]["truncated"]
    return sum(last) / len(last)
