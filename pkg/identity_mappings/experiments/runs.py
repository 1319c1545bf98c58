"""A run: one recipe of a table's row, in one tier, with one seed; and where its files lie."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..data import SIZES
from ..errors import folder, whole
from ..nets.counts import count
from . import paper
from .protocols import Reduction, recipe
from .rows import Row

SEEDS = 2**32  # a seed is below: NumPy's streams take no larger one
MOST_RUNS = 10_000  # of a row in one command


_ROOT = Path(__file__).absolute().parents[3]
CHECKOUT = _ROOT if (_ROOT / "tasks.py").exists() else None  # the repository, where this library lies in one


def results_dir():
    """The folder of the records: $IDENTITY_MAPPINGS_RESULTS, else `results` of this checkout, else of this folder."""
    chosen = os.environ.get("IDENTITY_MAPPINGS_RESULTS")
    return folder(chosen or (CHECKOUT or Path.cwd()) / "results", "IDENTITY_MAPPINGS_RESULTS")


@cache
def _folder(results, tier, table, row, reduction, variant):
    group = f"table-{table}" if isinstance(table, int) else table
    return Path(results) / tier / group / (f"{row}@{reduction.name}" if reduction.name else row) / variant


@dataclass(frozen=True)
class Run:
    """One training. `row` and `variant` are its recipe's home; `seed` fixes weights, batches and dropout.

    watched: whether its units are measured on the way (`training.watched`); such a run has files of its own.
    """

    row: Row
    variant: str
    tier: str
    seed: int
    reduction: Reduction = Reduction()
    watched: bool = False

    @property
    def recipe(self):
        return recipe(self.row.recipe(self.variant), self.tier, self.reduction)

    @property
    def counts(self):
        """The `Counts` of its network on images of its data set's size."""
        return count(self.recipe.network, SIZES[self.recipe.dataset])

    @property
    def multiply_adds(self):
        """Of all its images' forward passes; a run's time is taken to be in proportion."""
        protocol = self.recipe.protocol
        return self.counts.macs * protocol.batch * protocol.iterations

    @property
    def name(self):
        """As progress lines and messages call it."""
        watched = "watched" if self.watched else ""
        parts = (paper.label(self.row.table), self.row.id, self.variant, str(self.reduction), self.tier, watched)
        return " · ".join([part for part in parts if part] + [f"seed {self.seed}"])

    def folder(self, results=None):
        """Of the run's files: <results>/<tier>/table-<t> or the study's name/<row>[@<reduction>][/<variant>]."""
        row = self.row
        return _folder(results or results_dir(), self.tier, row.table, row.id, self.reduction, self.variant)

    def seeds(self, results=None, kinds=(".json", ".checkpoint", ".lock")):
        """The seeds of which the run's folder holds a file of those kinds, ascending; other files are passed over."""
        found = self.folder(results).glob(f"{self._kind}-*")
        name = rf"{self._kind}-(0|[1-9][0-9]{{,9}})"  # as a seed is written: not 01, nor other scripts' digits
        named = [re.fullmatch(name, path.stem) for path in found if path.suffix in kinds]
        return sorted({int(match[1]) for match in named if match and int(match[1]) < SEEDS})

    def record_path(self, results=None):
        return self._path("json", results)

    def checkpoint_path(self, results=None):
        return self._path("checkpoint", results)

    def weights_path(self, results=None):
        return self._path("safetensors", results)

    def lock_path(self, results=None):
        return self._path("lock", results)

    @property
    def _kind(self):
        return "watched" if self.watched else "seed"

    def _path(self, suffix, results):
        return self.folder(results) / f"{self._kind}-{self.seed}.{suffix}"


def plan(rows, tier, seeds, reduction=Reduction()):
    """The runs that the rows need, each recipe once: all of the first seed, then all of the second, and so on.

    `seeds`: their number, counted from 0, or the seeds themselves, which may repeat. Raises UsageError for a number
    below 1 or above MOST_RUNS, and for a seed below 0 or not below SEEDS.
    """
    count = seeds if isinstance(seeds, int) else len(seeds)
    whole(count, "the number of seeds (the paper reports the median of 5)", 1, MOST_RUNS)
    numbers = range(count) if isinstance(seeds, int) else [whole(seed, "a seed", 0, SEEDS - 1) for seed in seeds]
    homes = dict.fromkeys(place(row, variant) for row in rows for variant in row.networks)
    runs = [Run(*found, tier, seed, reduction) for seed in numbers for found in homes]
    for run in runs:
        _ = run.recipe  # a reduction that a row cannot take is refused before anything is trained
    return runs


_HOMES = {(r.table, r.id, v): paper.home(r, v) for r in paper.rows() for v in r.networks}


def place(row, variant):
    """(row, variant) of the recipe's home; see `paper.home`."""
    return _HOMES[row.table, row.id, variant]
