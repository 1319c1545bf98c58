"""Section 4.2's "monitoring the responses": a run trained once more, its units measured on the way.

python -m identity_mappings watch --table 3 --row cifar10-164-original

What was seen is a JSON record beside the run's own. The run ends in the same weights as one that nobody watched.
"""

import math
from dataclasses import dataclass

import torch

from . import records
from .measurements import columns, measure
from .protocols import Reduction
from .runs import Run, place
from .training import loop
from .training.state import Clock, State

MOMENTS = (0, 1 / 64, 1 / 16, 1 / 4, 1)  # of the schedule: units change most at its start
DIGITS = 3  # significant, of a kept number: what a picture shows, in a file of some kilobytes


def moments(iterations):
    """The iterations after which a run of that length is measured."""
    return sorted({int(iterations * moment) for moment in MOMENTS})


def watch(run, device="cpu", precision="fp32", threads=None, results=None, report=loop.nothing):
    """Train a run, measure its units at its `moments`, write what was seen; returns that record.

    Measured are as many images as a mini-batch has, the first of the training images and always these, without
    augmentation and in training mode. report: as `loop.train`'s; "start" and "entry" are told. A run whose loss is not
    finite ends as a training would, and keeps the measurements from before. There is no checkpoint: a run that is
    killed starts anew. Raises UsageError for a record of another recipe.
    """
    kept = read(run, results)
    if kept is not None:
        return kept
    with loop.process_kept():
        threads = threads or torch.get_num_threads()
        torch.set_num_threads(threads)
        loop.be_exact(device)
        state = State(run.recipe, run.seed, device, precision)
        clock, due, units, finite = Clock(state), moments(run.recipe.protocol.iterations), [], True

        def tell(kind, **values):
            at = {"iteration": state.iteration, "iterations": due[-1], "seconds": state.seconds}
            report({"kind": kind, "run": run.name} | at | values)

        tell("start")
        while finite:
            if state.iteration in due:
                if state.iteration:
                    finite = state.enter()
                    clock.read()
                    tell("entry", **{column: values[-1] for column, values in state.curve.items()})
                if finite:
                    units.append({"iteration": state.iteration, **_measured(state)})
            if state.finished or not finite:
                break
            state.step()
        clock.read()
        seen = {"images": run.recipe.protocol.batch, "units": units}
        record = records.completed(run, loop._outcome(state, finite, device, precision, threads) | seen)
    return records.write_json(run.watched_path(results), record)


def _measured(state):
    """The measurements of a state's units by column, as they are kept."""
    batch = state.batches.images.plain(0, state.protocol.batch)
    found = columns(measure(state.network, *batch))
    del found["unit"]  # their order says it
    return {name: list(map(_rounded, values)) for name, values in found.items()}


def _rounded(value):
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def read(run, results=None):
    """What was seen of the run, or None where nobody watched it. Raises UsageError as `records.read` does."""
    return records.read_json(run.watched_path(results), run)


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
        first = Run(*place(row, variant), tier, 0, reduction)
        for path in sorted(first.folder(results).glob("watched-*.json")):
            seed = path.stem.removeprefix("watched-")
            if seed.isdigit():
                found.append(read(Run(first.row, first.variant, tier, int(seed), reduction), results))
    ended = tuple(record for record in found if record["status"] == "finished")
    return Seen(row, tier, ended, len(found) - len(ended))


def share_truncated(record):
    """The share of y_l that f sets to zero when training ends, the mean over the units."""
    last = record["units"][-1]["truncated"]
    return sum(last) / len(last)
