"""The numbers of a run that claims compare: its test error, its training loss early and late, what f truncates."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from . import watching
from .statistics import chance, summaries


@dataclass(frozen=True)
class Quantity:
    """A number of a run: what a comparison compares. `of` gives it from a record, infinite where the run diverged.

    guess: its value for a network that guesses among so many classes. summaries: gives the records of each recipe of a
    row, of its runs or of what was seen in them.
    """

    name: str
    of: Callable
    guess: Callable
    summaries: Callable = summaries


def _at_the_end(record):
    value = record["curve"]["train_loss"][-1]
    return math.inf if record["status"] == "diverged" or value is None else value


def _at_the_start(record):
    """The mean over the first tenth of the iterations, by what was logged in it; the first entry, if that is longer."""
    curve, iterations = record["curve"], record["recipe"]["protocol"]["iterations"]
    logged = zip(curve["iteration"], curve["train_loss"], strict=True)
    early = [loss for at, loss in logged if at <= iterations / 10] or curve["train_loss"][:1]
    return math.inf if None in early else statistics.mean(early)


def _error(record):
    return math.inf if record["status"] == "diverged" else record["test_error"]


def _truncated(record):
    return 100.0 * watching.share_truncated(record)


def _watched(*of):
    return [watching.seen(*of)]


ERROR = Quantity("test error", _error, chance)
FINAL_LOSS = Quantity("training loss at the end", _at_the_end, math.log)
EARLY_LOSS = Quantity("training loss in the first tenth of the iterations", _at_the_start, math.log)
TRUNCATED = Quantity("percent truncated at the end", _truncated, lambda classes: math.nan, _watched)
