"""Damaged and hostile files, made at random, for every reader of files that may come from elsewhere.

python tests/fuzz.py torch7 --seconds 600      ten minutes of them, in a process of its own
python tests/fuzz.py torch7 --case 1234        that file again, with the traceback

A reader may take a file or refuse it in one line. It must not end in a traceback, take ten seconds of a core, or ask
for a gigabyte of memory. What the fuzzer found stands as a test of its own beside each reader's; this goes on looking.
Files and readers are in `hostile.py`. Linux only.
"""

import argparse
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NAMES = ("safetensors", "pytorch", "torch7", "npz", "contribution")
SECONDS, MEMORY = 10, 2**30  # of a core's time, and bytes of address space, that one file may cost
SILENCE = 60  # seconds of a core without a word after which a worker is taken to hang; on a busy machine they are long


def outcome(reader, case):
    """What the reader does with the file of that number: "read" or "refused". Raises AssertionError for anything else.

    Other errors of the reader's come through as they are.
    """
    from identity_mappings import UsageError

    reader.path.write_bytes(reader.make(random.Random(case)))
    busy, said = time.process_time(), "read"
    try:
        reader.read()
    except UsageError as refusal:
        said = "refused"
        assert "\n" not in str(refusal), f"more than one line: {refusal}"
        assert not any(word in str(refusal) for word in ("MemoryError", "allocate")), f"memory asked for: {refusal}"
    busy = time.process_time() - busy
    assert busy < SECONDS, f"{busy:.0f} seconds"
    return said


def address_space():
    """The most address space that this process has had, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmPeak:")[2].split()[0])


def work(name, case):
    """Cases from that number on, without end; a line each, after a first one that says that it is ready."""
    import hostile

    with tempfile.TemporaryDirectory() as folder:
        reader = hostile.READERS[name](Path(folder))
        for warm in range(-5, 0):
            outcome(reader, warm)
        before, over = address_space(), 0
        print("ready", flush=True)
        while over <= MEMORY:
            try:
                said = outcome(reader, case)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a panic of a library in Rust is no Exception
                said = f"FAILED with {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            over = address_space() - before
            if over > MEMORY:  # the peak would hide the next one: it ends here, and another worker goes on
                said = f"FAILED with {over / 2**30:.1f} GB of address space"
            print(case, said, flush=True)
            case += 1


def fuzz(name, seconds, case=0):
    """Have workers go through cases for that long; returns (cases, how many were read, failures)."""
    end, read, failures, first = None, 0, [], case
    while end is None or time.monotonic() < end:
        worker = Worker(name, case)
        assert worker.line() == "ready\n", worker.last_words()
        end = end or time.monotonic() + seconds
        while time.monotonic() < end and (line := worker.line(end)):
            read += line.endswith(" read\n")
            case = int(line.split()[0]) + 1
            if "FAILED" in line:
                failures.append(line.strip())
        if time.monotonic() < end and worker.failed():
            failures.append(f"{case} FAILED: its process hung or died: {worker.last_words()}")
            case += 1
        worker.process.kill()
    return case - first, read, failures


class Worker:
    """A process that goes through cases, and the lines that it says."""

    def __init__(self, name, case):
        command = [sys.executable, __file__, name, "--worker", "--case", str(case)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def line(self, end=float("inf")):
        """Its next line; "" where it has ended, the time is over, or it has worked for long without a word."""
        began = self._busy()
        while time.monotonic() < end and self._busy() - began < SILENCE:
            try:
                return self.lines.get(timeout=1)
            except queue.Empty:
                pass
        return ""

    def _busy(self):
        """Seconds of a core that it has had."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it is gone
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def failed(self):
        """Whether it hangs or died, rather than ended as it does after a file that took too much memory."""
        try:
            return self.process.wait(timeout=SILENCE) != 0
        except subprocess.TimeoutExpired:
            return True

    def last_words(self):
        self.process.kill()
        return self.process.stderr.read().strip().splitlines()[-1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file; default: 0")
    parser.add_argument("--case", type=int, help="the file of that number alone")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return work(given.reader, given.case)
    if given.case is not None:
        import hostile

        with tempfile.TemporaryDirectory() as folder:
            print(outcome(hostile.READERS[given.reader](Path(folder)), given.case))
        return 0
    cases, read, failures = fuzz(given.reader, given.seconds, given.first)
    print("\n".join([*failures, f"{given.reader}: {cases} files, {read} read, {len(failures)} failures"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
