"""Looking at processes from outside, for the tests that kill and interrupt them."""

import time
from pathlib import Path

PATIENCE = 300.0  # seconds, on a machine with much else to do


def until(true):
    """Waits until a call gives what is true, and gives that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{true} did not come true in {PATIENCE} seconds")


def children(parent):
    """The processes that a process has started and that still run, by number."""
    states = {int(path.name): _state(path.name) for path in Path("/proc").glob("[0-9]*")}
    return [number for number, fields in states.items() if fields and fields[1] == str(parent)]


def is_there(process):
    """Whether a process still runs; one that has ended and is not yet waited for does not."""
    return _state(process) is not None


def _state(process):
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # state, parent, ...
    except OSError:
        return None
    return None if fields[0] == "Z" else fields
