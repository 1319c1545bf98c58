"""A small table, trained again and again under whatever may happen to it; what must hold all the same is counted.

invoke chaos --minutes 10 --json book/chaos/here.json
invoke chaos --minutes 0 --kills 200    kill -9, again and again, of a process that trains a table
invoke chaos --minutes 0 --workers 10   two processes that torchrun started: one is killed, ten times, and both, too
invoke chaos --minutes 0 --nodes 10     a Ray cluster of three nodes here, of which one is lost, ten times

A trial of the first kind starts the real command, does one thing to it, and then lets the same command end undisturbed.
Ctrl-C ends the trials; the counts until then are kept. A trial counts as

lost    a run has no record at the end, or a record that was there is gone
wrong   a record has other numbers than the undisturbed run's
stuck   a command does not end, or leaves a process behind
untold  a traceback where one line was due, a status that says nothing, or a file that no record accounts for
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, product
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "pkg"), str(HERE)]

from identity_mappings.results import records  # noqa: E402
from identity_mappings.training import loop, train  # noqa: E402

CUT = ("--tier", "smoke", "--depth", "8", "--iterations", "200", "--device", "cpu")
TRAIN = ("train", "--table", "1", "--row", "original", "--row", "dropout", *CUT)
LONGEST = 600  # seconds for a small table after which a process that trains it is stuck, however busy the machine
PATIENCE = 15  # times what the undisturbed command takes, after which one is stuck
FAULTS = ("lost", "wrong", "stuck", "untold")

# In every process of the command: a checkpoint five times a second, so that there is one to damage; and where asked, a
# clock that jumps by up to a day in either direction each time it is read.
SITECUSTOMIZE = """
import importlib.machinery, os, random, sys, time

class Sooner(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "identity_mappings.training.loop":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module.CHECKPOINT_SECONDS, module.CHECKPOINT_SHARE = 0.2, 0
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Sooner)
if os.environ.get("CHAOS_CLOCK"):
    clock = time.time
    time.time = lambda: clock() + random.uniform(-86400, 86400)
"""


class Trial:
    """One results folder, the processes that were started on it, and what has gone wrong."""

    def __init__(self, folder, site, seconds):
        self.results, self.site, self.seconds = folder, site, seconds
        self.faults, self.started, self.kept = set(), {}, {}  # started: each process with what it says

    def start(self, *words, **variables):
        """Start a command in a session of its own."""
        path = os.pathsep.join([str(self.site), str(HERE.parent / "pkg")])
        env = os.environ | {"PYTHONPATH": path, "IDENTITY_MAPPINGS_RESULTS": str(self.results)} | variables
        command = [sys.executable, "-m", "identity_mappings", *(words or TRAIN)]
        said = self.site / f"said-{len(self.started)}.txt"
        with open(said, "wb") as file:
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)
        self.started[process] = said
        return process

    def sleep(self):
        """Until any moment of the undisturbed command's time."""
        time.sleep(random.uniform(0, self.seconds))

    def ended(self, process, statuses):
        """Wait for a command's end, and hold it to one of the statuses and to words without a traceback."""
        try:
            status = process.wait(PATIENCE * self.seconds)
        except subprocess.TimeoutExpired:
            self.faults.add("stuck")
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        said = self.started[process].read_text(errors="replace")
        if status not in statuses or "Traceback" in said:
            self.faults.add("untold")
            print(f"status {status}, expected one of {statuses}; it said: {said[-2000:]}", file=sys.stderr)
        self.gone(process)

    def gone(self, process):
        """All processes of the command's session must end soon after it."""
        until = time.monotonic() + 2 * self.seconds
        while alive := _session(process.pid):
            if time.monotonic() > until:
                self.faults.add("stuck")
                print(f"left behind: {alive}", file=sys.stderr)
                for pid in alive:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.2)

    def files(self, suffix):
        """The files of that kind, in the results folder, with a run's name."""
        return sorted(self.results.rglob(f"seed-*{suffix}"))

    def keep(self):
        """Note the records that are there: none of them may go."""
        self.kept = {path: path.read_bytes() for path in self.files(".json")}

    def settle(self, expected):
        """Let the command end undisturbed, and compare with the numbers that are expected."""
        self.ended(self.start(), (0,))
        found = numbers(self.results)
        if found.keys() != expected.keys() or any(not path.exists() for path in self.kept):
            self.faults.add("lost")
        if any(found[name] != expected[name] for name in found.keys() & expected.keys()):
            self.faults.add("wrong")
        if left := strays(self.results):
            self.faults.add("untold")
            print(f"left behind: {left}", file=sys.stderr)


def numbers(results):
    """What each run of a folder ended with, by where its record lies."""
    return {
        str(path.relative_to(results)): records.numbers(json.loads(path.read_text()))
        for path in sorted(results.rglob("seed-*.json"))
    }


def strays(results):
    """The names of a folder's files that are no records."""
    return [path.name for path in results.rglob("*") if path.is_file() and path.suffix != ".json"]


def _session(leader):
    """The processes of a session, zombies aside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def _workers(leader):
    """The processes that train for a session's leader: neither itself nor Python's watcher over its semaphores.

    That one trains nothing, and where it is killed Python complains at the end of a command that lost nothing.
    """
    found = []
    for pid in _session(leader):
        with suppress(OSError):
            if pid != leader and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def flip(path):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(bytes(content))


# --- what is done to a command; each returns False where it could not be tried here


def kill_the_process(trial):
    process = trial.start()
    trial.sleep()
    trial.keep()
    process.kill()
    process.wait()
    trial.gone(process)


def kill_a_worker(trial):
    process = trial.start()
    trial.sleep()
    trial.keep()
    if workers := _workers(process.pid):
        with suppress(ProcessLookupError):
            os.kill(random.choice(workers), signal.SIGKILL)
    trial.ended(process, (0, 2))


def kill_the_group(trial):
    process = trial.start()
    trial.sleep()
    trial.keep()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    trial.gone(process)


def terminate(trial):
    _signalled(trial, signal.SIGTERM, (0, 143, 130))


def interrupt(trial):
    _signalled(trial, signal.SIGINT, (0, 130))


def _signalled(trial, number, statuses):
    process = trial.start()
    trial.sleep()
    trial.keep()
    process.send_signal(number)
    trial.ended(process, statuses)


def fill_the_disk(trial):
    """A disk of 4 MiB that is full at any moment of the training, and has room again afterwards."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", trial.results], capture_output=True)
    if mounted.returncode:
        return False
    process = trial.start()
    trial.sleep()
    filler = trial.results / "filler"
    with suppress(OSError), open(filler, "wb", 0) as file:
        while True:
            file.write(b"\0" * 4096)
    trial.keep()
    trial.ended(process, (0, 2))
    filler.unlink()


def flip_a_checkpoint(trial):
    process = trial.start()
    while process.poll() is None and not trial.files(".checkpoint"):
        time.sleep(0.05)
    trial.keep()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    trial.gone(process)
    if damaged := trial.files(".checkpoint"):
        flip(damaged[0])
        before = damaged[0].read_bytes()
        trial.ended(trial.start(), (2,))
        if damaged[0].read_bytes() != before:
            trial.faults.add("untold")
        damaged[0].unlink()  # as the line asks


def flip_a_record(trial):
    trial.ended(trial.start(), (0,))
    damaged = random.choice(trial.files(".json"))
    flip(damaged)
    process = trial.start()
    trial.ended(process, (0, 2))
    if process.returncode == 2:
        damaged.unlink()  # as the line asks


def flip_the_data(trial):
    """A pixel of CIFAR-10, where its file is at hand."""
    source = Path(os.environ.get("IDENTITY_MAPPINGS_DATA", "")) / "cifar10.npz"
    if not source.is_file():
        return False
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(source, folder))
        copy.chmod(0o600)
        with open(copy, "r+b") as file:
            file.seek(random.randrange(1000, copy.stat().st_size - 1000))
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ (1 << random.randrange(8))]))
        words = ("train", "--table", "1", "--row", "original", "--tier", "quick", "--depth", "8", "--iterations", "1")
        trial.ended(trial.start(*words, IDENTITY_MAPPINGS_DATA=folder), (2,))


def start_a_second(trial):
    """Two commands on the same runs: one trains, the other waits or says so."""
    first = trial.start()
    trial.sleep()
    second = trial.start()
    trial.ended(first, (0, 2))
    trial.ended(second, (0, 2))


def turn_the_clock(trial):
    """The clock jumps all the while, and the files that are left are of another year."""
    process = trial.start(CHAOS_CLOCK="1")
    trial.sleep()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    trial.gone(process)
    trial.keep()
    for path in trial.results.rglob("*"):
        moment = time.time() + random.choice((-1, 1)) * 365 * 86400
        os.utime(path, (moment, moment))


DISTURBANCES = (
    kill_the_process,
    kill_a_worker,
    kill_the_group,
    terminate,
    interrupt,
    fill_the_disk,
    flip_a_checkpoint,
    flip_a_record,
    flip_the_data,
    start_a_second,
    turn_the_clock,
)


def trial_of(disturb, site, seconds, expected):
    """The faults of one trial; None where it could not be tried here."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        results = Path(folder) / "results"
        results.mkdir()
        trial = Trial(results, site, seconds)
        try:
            if disturb(trial) is False:
                return None
            trial.settle(expected)
        finally:
            for process in trial.started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if os.path.ismount(results):
                subprocess.run(["umount", "-l", results], check=True)
        return trial.faults


def disturb_commands(minutes, counts):
    """Add a Counter of trials and faults to the counts for each kind of disturbance; each in turn, for so long.

    As of all that follow: a generator, which gives its turn after each trial.
    """
    counts |= {disturb.__name__.replace("_", " "): Counter() for disturb in DISTURBANCES}
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        site = Path(folder)
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
        undisturbed = Trial(site / "undisturbed", site, 600)
        began = time.monotonic()
        undisturbed.ended(undisturbed.start(), (0,))
        seconds, expected = time.monotonic() - began, numbers(undisturbed.results)
        print(f"undisturbed: {len(expected)} runs in {seconds:.0f} s", flush=True)
        until, turn = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < until:
            disturb = DISTURBANCES[turn % len(DISTURBANCES)]
            turn += 1
            faults = trial_of(disturb, site, seconds, expected)
            name = disturb.__name__.replace("_", " ")
            if faults is None:
                continue
            counts[name].update(["trials", *faults])
            print(f"{name}: {', '.join(sorted(faults)) or 'as undisturbed'}", flush=True)
            yield


def kill_often(times, counts):
    """Add so many kills -9 to the counts, each at a random moment of a process that trains a small table.

    Another goes on with the same table until it is complete; then the next table begins. The processes are forked from
    this one, which has the library loaded and trains nothing: a kill takes a second, and a command's start ten.
    """
    from conftest import small_run

    counted = counts.setdefault("kill again and again", Counter())
    runs = [
        small_run(2, id, iterations=15)
        for id in ("110-original", "110-relu-before-addition", "110-full-pre-activation")
    ]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        process, _ = _train_in_turn(runs, Path(folder) / "undisturbed")
        process.join()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy, expected = used.ru_utime + used.ru_stime, numbers(Path(folder) / "undisturbed")
        print(f"undisturbed: {len(expected)} runs in {busy:.1f} s of a core", flush=True)
        table = 0
        while counted["trials"] < times:
            results = Path(folder) / str(table)
            table += 1
            kills = _kill_until_complete(runs, results, busy, times - counted["trials"])
            found = numbers(results)
            faults = {
                "lost": found.keys() != expected.keys() or kills["lost"],
                "wrong": any(found[name] != expected[name] for name in found.keys() & expected.keys()),
                "stuck": kills["stuck"],
                "untold": strays(results),
            }
            faults = [name for name, happened in faults.items() if happened]
            counted["trials"] += kills["kills"]
            counted.update(faults)
            print(f"table {table}, {kills['kills']} kills: {', '.join(faults) or 'as undisturbed'}", flush=True)
            yield


def _kill_until_complete(runs, results, busy, times):
    """Train the runs through so many kills at most; a Counter of kills, of records that went, and of tables stuck.

    busy: seconds of a core that the table takes undisturbed; each kill comes within the first half of them.
    """
    counted = Counter()
    while True:
        process, training = _train_in_turn(runs, results)
        to_kill = counted["kills"] < times
        came = _trained_for(random.uniform(0, busy / 2) if to_kill else math.inf, process, training)
        if process.exitcode is not None:
            return counted
        kept = set(results.rglob("seed-*.json"))
        process.kill()
        process.join()
        if not came:
            return counted + Counter(stuck=1)
        counted["kills"] += 1
        counted["lost"] += any(not path.exists() for path in kept)


def _trained_for(seconds, process, training):
    """Wait until a process has trained for so many seconds of a core, or has ended; False where neither comes."""
    until, began = time.monotonic() + LONGEST, None
    while time.monotonic() < until:
        process.join(0.01)
        if process.exitcode is not None:
            return True
        if training.is_set():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            began = now if began is None else began
            if now - began >= seconds:
                return True
    return False


def _train_in_turn(runs, results):
    """(a process that trains the runs in turn, with a checkpoint after each iteration; the event that it has begun)."""
    context = multiprocessing.get_context("fork")
    training = context.Event()

    def work():
        loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SHARE = 0
        for run in runs:
            loop.train(run, report=lambda _: training.set(), results=results)

    process = context.Process(target=work)
    process.start()
    return process, training


def kill_workers(times, counts):
    """Add as many trials to the counts in which torchrun's two processes train a run and one is killed, and both."""
    import numpy as np
    import two_processes

    run, names = two_processes.small(), {1: "kill one of torchrun's two processes", 2: "kill both of them"}
    counts |= {name: Counter() for name in names.values()}
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        data = Path(folder) / "data"
        two_processes.draw_few(data)
        variables = {"IDENTITY_MAPPINGS_DATA": str(data)}
        status, said = two_processes.train(run, Path(folder) / "undisturbed", **variables)
        if status != 0:
            raise RuntimeError(f"the undisturbed training ended with status {status}: {said}")
        expected = records.numbers(records.read(run, Path(folder) / "undisturbed"))
        for number, victims in product(range(times), names):
            results = Path(folder) / f"{number}-{victims}"
            kill = two_processes.Kill(run, results, victims, np.random.RandomState(random.randrange(2**31)))
            status, said = two_processes.train(run, results, kill, **variables)
            record = records.read(run, results)
            faults = {
                "lost": record is None,
                "wrong": record is not None and records.numbers(record) != expected,
                "stuck": status is None,
                "untold": status != 0 or strays(results) or "resumed at iteration" not in said,
            }
            faults = [name for name, happened in faults.items() if happened]
            if faults:
                print(said, file=sys.stderr)
            counts[names[victims]].update(["trials", *faults] if len(kill.killed) == victims else faults)
            told = f"after iteration {kill.after}: {', '.join(faults) or 'as undisturbed'}"
            print(f"killed of torchrun's two processes: {len(kill.killed)}, {told}", flush=True)
            yield


def lose_nodes(times, counts):
    """Add as many trials to the counts in which one of a local Ray cluster's two workers is lost in the middle."""
    import ray_nodes
    from conftest import small_run

    from identity_mappings.machines import cluster

    cluster.ray()
    started, counted = ray_nodes.start(), counts.setdefault("lose a Ray node", Counter())
    runs = [small_run(1, "original", iterations=300, seed=seed) for seed in range(3)]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, cluster.connected(started.address):
        expected = {run: records.numbers(train(run, results=Path(folder) / "alone", threads=1)) for run in runs}
        for number in range(times):
            lost, begun_again, at = [], [], random.randrange(20, 250)

            def report(event, lost=lost, begun_again=begun_again, at=at):
                if event["kind"] == "step" and event["iteration"] > at and not lost:
                    lost.append(random.choice(list(started.worker_nodes)))
                    started.remove_node(lost[0], allow_graceful=False)
                if "its worker was lost" in event.get("line", ""):
                    begun_again.append(event)

            results = Path(folder) / str(number)
            outcomes = cluster.train_on_cluster(runs, report, number % 2 == 1, results=results)
            for _ in lost:
                ray_nodes.add(started)
            faults = set()
            if any(not isinstance(outcomes[run], dict) for run in runs):
                faults.add("lost")
            elif any(records.numbers(records.read(run, results)) != expected[run] for run in runs):
                faults.add("wrong")
            if strays(results):
                faults.add("untold")
            counted.update(["trials", *faults])
            told = f"{len(lost)} nodes lost, {len(begun_again)} runs begun again"
            print(f"lose a Ray node: {', '.join(sorted(faults)) or 'as undisturbed'}; {told}", flush=True)
            yield
    started.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=0, help="of a process that trains a table, again and again")
    parser.add_argument("--workers", type=int, default=0, help="of two that torchrun started: one to kill, and both")
    parser.add_argument("--nodes", type=int, default=0, help="Ray nodes to lose, one after the other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="a file for the counts")
    given = parser.parse_args()
    random.seed(given.seed)
    counts, began = {}, time.monotonic()
    about = {"commit": records.commit(), "machine": platform.machine(), "python": platform.python_version()}
    with suppress(KeyboardInterrupt):
        for _ in chain(
            disturb_commands(given.minutes, counts) if given.minutes else (),
            kill_often(given.kills, counts) if given.kills else (),
            kill_workers(given.workers, counts) if given.workers else (),
            lose_nodes(given.nodes, counts) if given.nodes else (),
        ):
            if given.json:
                write(given.json, about, counts, time.monotonic() - began)
    print(json.dumps(plain(counts), indent=1))
    return int(any(counted[fault] for counted in counts.values() for fault in FAULTS))


def write(path, about, counts, seconds):
    """Write the counts as they are now: what has been tried is kept whatever comes."""
    now = {"written": datetime.now(UTC).isoformat(timespec="seconds"), "minutes": round(seconds / 60)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | now | {"counts": plain(counts)}, indent=1) + "\n")


def plain(counts):
    """The counts as JSON has them."""
    return {name: {key: counted[key] for key in ("trials", *FAULTS)} for name, counted in counts.items()}


if __name__ == "__main__":
    sys.exit(main())
