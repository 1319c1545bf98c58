"""Runs on many machines, with Ray (an extra: pip install 'identity-mappings[cluster]').

invoke reproduce --table 2 --cluster auto

Each run is one Ray task. The library travels with it, and the data; events, checkpoints and records come home through
Ray, or lie in a results folder that all machines share. A task whose worker or machine is lost is begun again elsewhere
from the run's last checkpoint, and ends with the same numbers. Nothing else in the library knows of Ray.
"""

import ctypes
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy

from .. import data
from ..data import SIZES
from ..data.imagenet import Photographs, choose_folder
from ..errors import Interrupted, UsageError
from ..experiments.protocols import ImageNetProtocol
from ..experiments.runs import results_dir
from ..iteration import memory
from ..results import records
from ..training import distributed, train
from ..training.loop import How, locked, nothing
from ..training.many import how_far, standing

LEAVE = 15.0  # seconds before a budget's end at which workers are to stop: a step, a checkpoint, the way home
RETRIES = 20  # times that a run is begun again after a lost worker: spot machines go often, and each loses a minute
POLL_SECONDS = 0.5  # between looks at the tasks, and at whether a worker is to stop
PACKAGE = Path(__file__).resolve().parents[1]


def ray():
    """The module. Raises UsageError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless the user says so
    try:
        import ray as module
        import ray.exceptions
        import ray.util.scheduling_strategies  # noqa: F401
    except ImportError:
        raise UsageError("--cluster needs Ray: pip install 'identity-mappings[cluster]'") from None
    return module


@contextmanager
def connected(address):
    """Within it this process is connected to a Ray cluster; gives the device that its runs train on, "cuda" or "cpu".

    address: HOST:PORT of the cluster's head, from one of its machines; "auto": the cluster that this machine is of, or
    else this machine as a cluster of one. Raises UsageError where there is none.
    """
    module = ray()
    if "://" in address:
        raise UsageError(f"--cluster must be auto or HOST:PORT, given on a machine of the cluster; got {address!r}")
    # the library goes with the job, so that every machine runs the same commit
    environment = {"py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__"], "env_vars": _variables()}
    quiet = {"log_to_driver": False, "logging_level": "error", "runtime_env": environment}
    try:
        try:
            module.init(address=address, **quiet)
        except ConnectionError:
            if address != "auto":
                raise
            module.init(address="local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"no Ray cluster answers at {address} ({reason}): start one with: ray start --head") from None
    try:
        yield "cuda" if module.cluster_resources().get("GPU") else "cpu"
    finally:
        module.shutdown()


def _variables():
    """Workers are told the commit, which their copy of the library cannot know."""
    commit = records.commit()
    return {"IDENTITY_MAPPINGS_COMMIT": commit} if commit else {}


def train_on_cluster(runs, report=nothing, shared=False, processes=1, **how):
    """`train_all` on the cluster that this process is connected to, with the same outcomes.

    shared: the results folder is on a file system that every machine has under the same path; else checkpoints and
    records come home through Ray. processes: that torchrun starts on one machine for each run, of Table 5 alone, a GPU
    each. how: fields of `How`; device and precision hold on every machine.
    """
    if processes > 1:
        distributed.check_runs(runs)
    how = How(**how)
    how = replace(how, results=Path(how.results or results_dir()).resolve())
    outcomes = standing(runs, how)
    with ExitStack() as locks:
        waiting = []
        for run in (run for run in runs if outcomes[run] is None):
            try:
                # with a shared folder the machine that trains has the lock
                locks.enter_context(nullcontext() if shared else locked(run, how.results, patience=0))
                waiting.append(run)
            except UsageError as error:
                outcomes[run] = error
        return outcomes | (_Job(waiting, how, shared, processes, report).outcomes if waiting else {})


class _Job:
    """The tasks of one command, from their submission to `outcomes`. Ctrl-C has all workers leave a checkpoint."""

    def __init__(self, runs, how, shared, processes, report):
        self.ray, self.how, self.report, self.shared = ray(), how, report, shared
        self.processes = self._that_fit(processes)
        here = self.ray.get_runtime_context().get_node_id()
        pinned = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        # an actor on this machine, for it writes into the results folder here
        self.home = self.ray.remote(num_cpus=0, scheduling_strategy=pinned)(Home).remote(how.results)
        self.gpu = None if how.device == "cpu" else self._get(self.ray.remote(num_gpus=1)(_gpu).remote())
        self.outcomes, self.stopping = {}, False
        with _token(how.results) if shared else nullcontext() as token:
            self.tasks = self._submit(runs, token)
            if self._interrupted():
                raise Interrupted(how_far(runs, how.results), signal.SIGINT)

    def _interrupted(self):
        """See the tasks to their end; whether Ctrl-C cut it short."""
        interrupted = False
        while self.tasks:
            try:
                self._look()
                if self.how.until is not None and time.monotonic() > self.how.until - LEAVE and not self.stopping:
                    self._stop()
            except KeyboardInterrupt:
                if interrupted:  # a second Ctrl-C does not wait for checkpoints
                    raise
                interrupted = True
                self._stop()
        return interrupted

    def _submit(self, runs, token):
        sets = {name: self.ray.put(_sent(name)) for name in {run.recipe.dataset for run in runs}}
        same = source_digest(), token, self.processes
        how = replace(self.how, until=None)  # another machine has another clock: this one watches it
        task = self.ray.remote(max_retries=RETRIES)(work)
        return {
            task.options(**self._share(run)).remote(self.home, run, how, sets[run.recipe.dataset], *same): run
            for run in runs
        }

    def _share(self, run):
        """What one run's task asks of its machine."""
        if self.gpu is None:
            return {"num_cpus": self.how.threads * self.processes}
        if self.processes > 1:  # Ray takes them from one machine
            return {"num_cpus": self.processes, "num_gpus": self.processes}
        return {"num_cpus": 1, "num_gpus": share_of_gpu(run, self.how.precision, *self.gpu)}

    def _that_fit(self, processes):
        """The number of processes. Raises UsageError where no machine has a device for each: Ray would wait for one."""
        device = "CPU" if self.how.device == "cpu" else "GPU"
        most = max(int(node["Resources"].get(device, 0)) for node in self.ray.nodes() if node["Alive"])
        if processes > max(most, 1):
            raise UsageError(
                f"--gpus must be at most the {device}s of one machine of the cluster, {most}; got {processes}"
            )
        return processes

    def _look(self):
        done, _ = self.ray.wait(list(self.tasks), timeout=POLL_SECONDS)
        for event in self._get(self.home.events.remote()):
            self.report(event)
        for task in done:
            run = self.tasks[task]
            self.outcomes[run] = self._outcome(run, task)
            del self.tasks[task]  # only now: an interrupt in between finds the task still there

    def _stop(self):
        self.stopping = True
        begun = self._get(self.home.stop.remote())
        for task, run in self.tasks.items():
            if run.name not in begun:
                self.ray.cancel(task)  # the others leave a checkpoint and end by themselves

    def _get(self, reference):
        try:
            return self.ray.get(reference)
        except (self.ray.exceptions.RayActorError, self.ray.exceptions.RaySystemError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"the cluster is gone ({reason}): run the same command again, and it goes on") from error

    def _outcome(self, run, task):
        exceptions = self.ray.exceptions
        try:
            record, weights = self.ray.get(task)
        except UsageError as error:
            return UsageError(str(getattr(error, "cause", error)))  # without the traceback of the worker
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as error:
            return None if self.stopping else _lost(run, error)
        except exceptions.TaskCancelledError:
            return None
        if record and not self.shared:
            if weights:  # before the record: once that is there, the run is never trained again
                records.write_atomically(run.weights_path(self.how.results), weights)
            records.store(run, record, self.how.results)
        return record


def _lost(run, error):
    return UsageError(
        f"{run.name}: {RETRIES + 1} workers were lost in turn ({type(error).__name__}), often for want of memory; "
        f"its last checkpoint is kept: run the same command again"
    )


def share_of_gpu(run, precision, available, most):
    """The share of a GPU that a run asks of Ray: small nets share one. available: its bytes; most: runs on it at once.

    By the rule of `Together`: as many at once as memory holds, and no more than pay; a run on ImageNet takes
    all of it. Each has a process of its own.
    """
    if isinstance(run.recipe.protocol, ImageNetProtocol):
        return 1
    need = memory.need(run.recipe, SIZES[run.recipe.dataset], precision)
    return 1 / memory.at_once([need] * most, most, available)


def _gpu():
    """(free bytes, runs at once) of the GPU that this task has."""
    return memory.free("cuda"), memory.side_by_side("cuda")


def source_digest():
    """SHA-256 of the library's source as it is imported here: what machines of one job must agree on."""
    found = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


@contextmanager
def _token(results):
    """The name of a file that lies in the results folder within it: who does not see it does not share the folder."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"shared-{uuid.uuid4().hex}.lock"  # .lock: no results folder commits it
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


class Home:
    """The job's end of every connection, an actor on the machine that the command was given on.

    results: the folder of the records there.
    """

    def __init__(self, results):
        self.results, self.stopping, self.begun, self.told = results, False, set(), []

    def begin(self, run, node):
        """A worker begins the run on a machine: its last checkpoint's bytes, or None."""
        if run.name in self.begun:
            line = f"{run.name}: its worker was lost; it goes on on {node} from its last checkpoint"
            self.tell({"kind": "note", "run": run.name, "iteration": 0, "iterations": 0, "seconds": 0.0, "line": line})
        self.begun.add(run.name)
        path = run.checkpoint_path(self.results)
        return path.read_bytes() if path.exists() else None

    def keep(self, run, content):
        """Keep a checkpoint, complete as it is here."""
        records.write_atomically(run.checkpoint_path(self.results), content)

    def tell(self, event):
        """Take an event of a run."""
        self.told.append(event)

    def events(self):
        """The events since the last call."""
        told, self.told = self.told, []
        return told

    def stop(self):
        """Have all workers leave a checkpoint and end; the names of the runs that were begun."""
        self.stopping = True
        return self.begun

    def asked(self):
        """Whether workers are to stop."""
        return self.stopping


def work(home, run, how, dataset, source, token, processes=1):
    """On some machine: train the run; returns (its record or None where it was stopped, its weights' bytes or None).

    home: the handle of the job's `Home`. source: the digest that this machine's library must have. token: of a shared
    results folder, None for a folder of this machine that is gone with the task. processes: that train it together.
    """
    if (found := source_digest()) != source:
        raise UsageError(f"{_here()} runs another library ({found[:12]}, expected {source[:12]}): {PACKAGE}")
    if dataset is not None:
        arrived = _own(dataset)
        data.DATASETS[run.recipe.dataset] = lambda _: arrived
        if isinstance(arrived, Photographs):
            choose_folder(arrived.train.root.parent)  # for torchrun's processes, which look for it themselves
    with ExitStack() as kept:
        if token is None:
            folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="identity-mappings-"))
            how = replace(how, results=Path(folder))
        elif not (how.results / token).exists():
            raise UsageError(f"{_here()} does not share {how.results}: leave --shared out, or mount it there")
        courier = Courier(home, run, how, carries=token is None)
        if processes == 1:
            record = train(run, courier.report, courier.should_stop, **vars(how))
        else:
            record = _by_torchrun(run, how, processes, courier)
        courier.deliver()
        weights = run.weights_path(how.results)
        return record, weights.read_bytes() if token is None and record and weights.exists() else None


def _by_torchrun(run, how, processes, courier):
    """`train` by several processes on this machine: torchrun's agent starts them, and again where one is lost."""
    given = distributed.arguments([run], how.device, how.precision, how.weights)
    found = os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)])  # the library that came with the job
    environment = os.environ | {"PYTHONPATH": found, "IDENTITY_MAPPINGS_RESULTS": str(how.results)}
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = distributed.command(processes, given)
    with subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent, **told) as agent:
        said = deque(maxlen=1)
        listener = threading.Thread(target=_pass_on, args=(agent.stdout, run, courier, said))
        listener.start()
        asked = False
        while agent.poll() is None:
            time.sleep(POLL_SECONDS)
            if courier.should_stop() and not asked:
                asked = True
                agent.terminate()  # the processes leave a checkpoint
        listener.join()
    record = records.read(run, how.results)
    if record is None and not asked:
        raise UsageError(f"{run.name}: torchrun ended with status {agent.returncode}: {' '.join(said)}")
    return record


def _pass_on(output, run, courier, said):
    """Tell home each line of a process's output, and keep the last one in `said`."""
    for line in output:
        if line := line.rstrip():
            said.append(line)
            event = {"kind": "note", "run": run.name, "iteration": 0, "iterations": 0, "seconds": 0.0, "line": line}
            courier.report(event)


def _end_with_parent():
    """In a process that begins: have it ended when this one is, whose machine Ray gives to another task (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _here():
    return socket.gethostname()


def _sent(name):
    """What goes to every machine of a data set: small ones themselves, of ImageNet the list of its files.

    None for pictures that each machine draws by itself.
    """
    return None if name == "drawn" else data.load(name)


def _own(dataset):
    """What came with the job, for this process. Raises UsageError where it is a list of files that are not here."""
    if isinstance(dataset, Photographs):
        missing = [root for root in (dataset.train.root, dataset.test.root) if not root.is_dir()]
        if missing:
            raise UsageError(f"{_here()} has no {missing[0]}: every machine needs ImageNet under the same path")
        return dataset
    # what Ray hands out is its own memory, and read-only
    arrays = {name: numpy.array(getattr(dataset, name)) for name in ("x_train", "y_train", "x_test", "y_test")}
    return replace(dataset, **arrays)


class Courier:
    """Carries a run's events and checkpoints home, and brings back whether to stop.

    It waits for answers from home in a thread of its own. A task whose main thread waits counts as idle to Ray, which
    then gives its core to the next task, so that ever more runs would share a core.
    """

    def __init__(self, home, run, how, carries):
        self.ray, self.home, self.run, self.path = ray(), home, run, run.checkpoint_path(how.results)
        self.carries, self.carried, self.under_way = carries, None, None
        self.looked, self.stopping = time.monotonic(), False
        self.thread = ThreadPoolExecutor(1)
        content = self._answer(home.begin.remote(run, _here()))
        if carries and content is not None:
            records.write_atomically(self.path, content)
            self.carried = self._state()

    def report(self, event):
        self.home.tell.remote(event)

    def should_stop(self):
        """Asked after every iteration; looks home no more often than POLL_SECONDS."""
        now = time.monotonic()
        if now - self.looked > POLL_SECONDS:
            self.looked = now
            self.stopping = self._answer(self.home.asked.remote())
            self._carry()
        return self.stopping

    def deliver(self):
        """Carry what is left to carry, and wait for its arrival."""
        self._carry(wait=True)

    def _carry(self, wait=False):
        if self.carries and (state := self._state()) and state != self.carried:
            if self.under_way is not None and not wait and not self._arrived():
                return  # the last is on its way still: the next look takes a newer one
            self.under_way = self.home.keep.remote(self.run, self.path.read_bytes())
            self.carried = state
        if wait and self.under_way is not None:
            self._answer(self.under_way)

    def _answer(self, reference):
        return self.thread.submit(self.ray.get, reference).result()

    def _arrived(self):
        done, _ = self.thread.submit(self.ray.wait, [self.under_way], timeout=0).result()
        return bool(done)

    def _state(self):
        """What tells one checkpoint file from the next; None without one."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns
