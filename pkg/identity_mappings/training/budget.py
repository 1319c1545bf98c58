"""A budget of time, `--budget 25m`: runs that end, or leave a checkpoint, before a moment that is not theirs to pass.

What takes long is measured as it happens: the longest iteration with its evaluation and checkpoint, the longest start.
"""

import re
import statistics
import time

from ..errors import UsageError

START = 5.0  # seconds that a run's start may take before one has been measured
LEAVE = 2.0  # seconds for the last checkpoint and the end of the process
UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds(text):
    """The seconds of a budget as a user writes it: "25m", "1h30m", "90s". Raises UsageError for anything else."""
    match = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?", str(text), re.ASCII)
    total = (
        sum(int(amount or 0) * size for amount, size in zip(match.groups(), UNITS.values(), strict=True))
        if match
        else 0
    )
    if not total:
        raise UsageError(f"a budget is hours, minutes and seconds, as 25m, 1h30m or 90s; got {text!r}")
    return total


class Deadline:
    """One run's view of `until`, a moment of time.monotonic(), or None for no end."""

    longest_start = START  # seconds, in this process

    def __init__(self, until):
        self.until, self.began, self.asked, self.longest = until, time.monotonic(), None, 0.0

    @property
    def leaves_a_start(self):
        """Whether a run that starts now gets to its first iterations."""
        return self.until is None or time.monotonic() + Deadline.longest_start + LEAVE < self.until

    def near(self):
        """Whether to leave a checkpoint now: asked after every iteration, it knows how long they take."""
        now = time.monotonic()
        if self.asked is None:
            Deadline.longest_start = max(Deadline.longest_start, now - self.began)
        else:
            self.longest = max(self.longest, now - self.asked)
        self.asked = now
        return self.until is not None and now + 2 * self.longest + LEAVE >= self.until


class Pace:
    """A listener that hands events on, and knows from them how long the rest of the runs would take."""

    def __init__(self, report):
        self.report, self.first, self.last = report, {}, {}

    def __call__(self, event):
        self.report(event)
        if event["kind"] != "note":
            self.first.setdefault(event["run"], event)
            self.last[event["run"]] = event

    def left(self, runs):
        """Seconds that what these runs have left takes on this machine, one after the other; None before any pace.

        A run that has not been seen to train is taken to do as many operations a second as those that have.
        """
        each = {run: self._seconds_each(run) for run in runs}
        rates = [each[run] / _of_an_iteration(run) for run in runs if each[run]]
        if not rates:
            return None
        rate = statistics.median(rates)
        return sum(self._iterations_left(run) * (each[run] or rate * _of_an_iteration(run)) for run in runs)

    def _seconds_each(self, run):
        first, last = self.first.get(run.name), self.last.get(run.name)
        done = last["iteration"] - first["iteration"] if last else 0
        return (last["seconds"] - first["seconds"]) / done if done else None

    def _iterations_left(self, run):
        done = self.last[run.name]["iteration"] if run.name in self.last else 0
        return run.recipe.protocol.iterations - done


def _of_an_iteration(run):
    """Multiply-adds."""
    return run.multiply_adds / run.recipe.protocol.iterations
