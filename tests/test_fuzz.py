"""A few of the fuzzer's files for each reader, the same each time; and that the fuzzer sees what it is there to see."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fuzz
import hostile

from identity_mappings import UsageError
from identity_mappings.data import cifar


@pytest.mark.parametrize("name", hostile.READERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_readers_take_or_refuse(name, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "COUNTS", cifar.COUNTS)  # which the fuzzer changes
    reader = hostile.READERS[name](tmp_path)
    assert {fuzz.outcome(reader, case) for case in range(40)} <= {"read", "refused"}


def test_every_reader_has_its_name():
    assert tuple(hostile.READERS) == fuzz.NAMES


class Broken:
    """A reader that does what it is told to."""

    def __init__(self, folder, read):
        self.path, self.read = folder / "x", read

    def make(self, rng):
        return rng.randbytes(3)


def refuse(line):
    raise UsageError(line)


def busy():
    end = fuzz.time.process_time() + 0.2
    while fuzz.time.process_time() < end:
        pass


@pytest.mark.parametrize(
    "read, error",
    [
        (lambda: {}["x"], KeyError),
        (lambda: refuse("two\nlines"), AssertionError),
        (lambda: refuse("it cannot be read (MemoryError())"), AssertionError),
        (busy, AssertionError),
    ],
)
def test_the_fuzzer_sees(read, error, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    with pytest.raises(error):
        fuzz.outcome(Broken(tmp_path, read), 0)
    assert fuzz.outcome(Broken(tmp_path, lambda: None), 0) == "read"
    assert fuzz.outcome(Broken(tmp_path, lambda: refuse("one line")), 0) == "refused"
