"""That the chaos trials see what they are there to count."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import chaos
import pytest
from conftest import small_run

from identity_mappings.results import records


@pytest.fixture
def trial(tmp_path, outcome, monkeypatch):
    """A trial of two runs that have ended, and the numbers that they should have; its commands do nothing."""
    results = tmp_path / "results"
    for seed in (0, 1):
        records.write(small_run(1, "original", seed=seed), outcome(12.5 + seed), results)
    made = chaos.Trial(results, tmp_path, 1)
    monkeypatch.setattr(made, "start", lambda *_: None)
    monkeypatch.setattr(made, "ended", lambda *_: None)
    return made, chaos.numbers(results)


def test_a_table_as_it_should_be_has_no_fault(trial):
    made, expected = trial
    made.keep()
    made.settle(expected)
    assert len(expected) == 2 and made.faults == set()


@pytest.mark.parametrize("fault", ["wrong", "lost", "untold", "went"])
def test_each_fault_is_seen(trial, outcome, fault):
    made, expected = trial
    first, *_ = made.files(".json")
    made.keep()
    match fault:
        case "wrong":
            records.write(small_run(1, "original"), outcome(12.6), made.results)
        case "lost":
            first.unlink()
        case "untold":
            first.with_suffix(".checkpoint").touch()
        case "went":  # a record that was there, and another in its place
            made.kept[first.with_name("seed-7.json")] = b""
    made.settle(expected)
    assert made.faults == {"went": {"lost"}}.get(fault, {fault})


def test_a_process_that_is_left_behind_is_seen_and_ended(tmp_path):
    made = chaos.Trial(tmp_path, tmp_path, 0.5)
    leaves = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    process = subprocess.Popen([sys.executable, "-c", leaves], start_new_session=True)
    process.wait()
    made.gone(process)
    until = time.monotonic() + 60
    while chaos._session(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert made.faults == {"stuck"} and not chaos._session(process.pid)


def test_a_worker_to_kill_is_one_that_trains(tmp_path):
    """Not the process in which Python watches over semaphores."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, time\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    worker = spawn.Process(target=time.sleep, args=(600,), daemon=True)\n"
        "    worker.start()\n"
        "    print(worker.pid, flush=True)\n"
        "    worker.join()\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        worker = int(process.stdout.readline())
        try:
            assert chaos._workers(process.pid) == [worker] and len(chaos._session(process.pid)) == 3
        finally:
            os.killpg(process.pid, signal.SIGKILL)


class Process:
    """One that trains until it is killed; the third takes a record away, the fifth comes to its end."""

    made = 0

    def __init__(self, record):
        Process.made += 1
        self.record, self.number, self.exitcode, self.pid = record, Process.made, None, os.getpid()

    def join(self, timeout=None):
        if self.number == 5:
            self.exitcode = 0

    def kill(self):
        self.exitcode = -9
        if self.number == 3:
            self.record.unlink()


@pytest.mark.parametrize("most, counted", [(10, {"kills": 4, "lost": 1}), (2, {"kills": 2, "stuck": 1})])
def test_kills_and_what_they_do_are_counted(tmp_path, monkeypatch, most, counted):
    """With two kills at most, the third process must come to its end by itself, and does not."""
    record, training = tmp_path / "seed-0.json", threading.Event()
    record.touch()
    training.set()
    monkeypatch.setattr(Process, "made", 0)
    monkeypatch.setattr(chaos, "_train_in_turn", lambda runs, results: (Process(record), training))
    monkeypatch.setattr(chaos, "LONGEST", 0.5)
    assert chaos._kill_until_complete([], tmp_path, 0, most) == Counter(counted)


def test_a_flip_is_of_one_bit(tmp_path):
    path, before = tmp_path / "file", bytes(range(256))
    path.write_bytes(before)
    chaos.flip(path)
    differing = [one ^ other for one, other in zip(before, path.read_bytes(), strict=True)]
    assert sum(bits.bit_count() for bits in differing) == 1
