"""Damages records at random and reads them as the commands do, until the time is over or one ends in a traceback.

python tests/fuzz_records.py --seconds 600 --seed 1

A record must be read or be refused in one line, within ten seconds; what is read must go through the tables. Prints how
many were tried, how many of them were refused, the longest reading and the process's peak of memory. The suite runs
a hundred of them; `tests/results/test_soundness.py` keeps what it once found.
"""

import argparse
import json
import math
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import known

from identity_mappings import UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import inside
from identity_mappings.results import records, soundness, tables, watching

LONGEST = 10.0  # seconds for one reading
HOSTILE = (
    None, True, -1, 0, 1.5, 1e308, 2**63, 10**400, "", "٣", "\ud800", "diverged", [], {}, [[]], {"": []},
    [None] * 1000, "x" * 100_000,
)  # fmt: skip


@dataclass
class Tried:
    """What a fuzz has done: records tried and refused, and the longest reading in seconds."""

    tried: int = 0
    refused: int = 0
    longest: float = 0.0


def fuzz(folder, seed, seconds=math.inf, most=math.inf):
    """Damage and read records in `folder`, for so many seconds or so many of them; returns the `Tried`.

    Raises what a reading raises.
    """
    chance, so_far = random.Random(seed), Tried()
    seeds = [path.read_bytes() for path in known()[::7]]
    end = time.monotonic() + seconds
    while time.monotonic() < end and so_far.tried < most:
        content = chance.choice(seeds)
        run = run_of(json.loads(content))
        damaged = chance.choice((by_bytes, by_digits, by_structure, by_structure, by_nesting))(content, chance)
        path = run.record_path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)
        begin = time.monotonic()
        so_far.refused += not usable(run, folder)
        took = time.monotonic() - begin
        path.unlink()
        so_far.tried, so_far.longest = so_far.tried + 1, max(so_far.longest, took)
        assert took < LONGEST, f"{took:.1f} s for a record of {len(damaged)} bytes"
    return so_far


def run_of(record):
    (row,) = paper.rows(record["table"], [record["row"]])
    cut = Reduction.parse(record["reduction"])
    return Run(*place(row, record["variant"]), record["tier"], record["seed"], cut, watched="units" in record)


def usable(run, folder):
    """Whether the record is read, by itself and by what prints it; else it must be refused in one line."""
    try:
        records.read(run, folder)
        if run.watched:
            found = watching.seen(run.row, run.tier, run.reduction, folder)
            for name in soundness.UNITS:
                inside.medians(found, name)
            for record in found.records:
                watching.share_truncated(record)
        else:
            tables.text(run.row.table, run.tier, run.reduction, [run.row.id], folder)
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_000, error
        return False
    return True


def by_bytes(content, chance):
    """Bits flipped, bytes cut out, doubled, or put in."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        place, length = chance.randrange(len(damaged) + 1), chance.choice((1, 2, 16, 256))
        kind = chance.randrange(4)
        if kind == 0 and place < len(damaged):
            damaged[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del damaged[place : place + length]
        elif kind == 2:
            damaged[place:place] = damaged[place : place + length]
        else:
            damaged[place:place] = chance.randbytes(length)
    return bytes(damaged)


def by_digits(content, chance):
    """A digit or two replaced: what is still a number may be read."""
    damaged = bytearray(content)
    places = [place for place, byte in enumerate(content) if 48 <= byte < 58]
    for _ in range(chance.choice((1, 2))):
        damaged[chance.choice(places)] = chance.choice(b"0123456789.-eE")
    return bytes(damaged)


def by_structure(content, chance):
    """One value, however deep, replaced, removed or doubled; with the digest of the whole, or without one."""
    record = json.loads(content)
    inside = [record]
    for each in inside:
        inside += [
            value for value in (each.values() if isinstance(each, dict) else each) if isinstance(value, dict | list)
        ]
    for _ in range(chance.choice((1, 1, 2, 4))):
        target = chance.choice(inside)
        if not target:
            continue
        key = chance.choice(list(target)) if isinstance(target, dict) else chance.randrange(len(target))
        kind = chance.randrange(4)
        if kind == 0:
            del target[key]
        elif kind == 1 and isinstance(target, list):
            target.append(target[key])
        else:
            target[key] = chance.choice(HOSTILE)
    record.pop("digest", None)
    if chance.random() < 0.5:
        record["digest"] = soundness.digest(record)
    return json.dumps(record).encode()


def by_nesting(content, chance):
    """A value nested very deep, or repeated very often, in the middle of the record."""
    depth = chance.choice((10, 1_000, 100_000))
    deep = chance.choice(
        (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"0" + b"}" * depth, b"[0" + b",0" * depth + b"]")
    )
    place = content.index(b": ") + 2
    return content[:place] + deep + content[content.index(b",", place) :]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = fuzz(Path(folder), given.seed, given.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{done.tried:,} records, {done.refused:,} refused, longest {done.longest:.3f} s, peak {peak:.0f} MB")
    sys.exit(peak > 1024)
