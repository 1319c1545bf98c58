"""One run from where it stands to its record."""

import os
import platform
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import filelock
import numpy
import torch

from .. import environment
from ..errors import UsageError, choose, refusal
from ..experiments.protocols import ImageNetProtocol
from ..hardware import be_exact, device_name
from ..iteration.capture import ALL_WAYS, COMPILED
from ..iteration.step import PRECISIONS
from ..results import records
from ..weights.files import check_installed, save
from . import checkpoint, distributed
from .budget import Deadline
from .imagenet import ImageNetState
from .state import Clock, State
from .watched import WatchedState

CHECKPOINT_SECONDS = 30.0
REPORT_SECONDS = 0.5
CHECKPOINT_SHARE = 50  # a checkpoint that takes a second is written every so many: a large net's every few minutes
LOCK_SECONDS = 15.0  # a killed run's last process may need this long to notice


def nothing(*_):
    """The default listener."""


def never():
    """The default of what is asked whether to stop."""
    return False


@dataclass(frozen=True)
class How:
    """How runs are trained: all that is no part of their recipe.

    device: "cpu" or "cuda". precision: one of PRECISIONS. threads: CPU threads of each run. They change the last bits,
    and so what a run ends with; hence one, whatever the machine and whatever else is trained, and no command changes
    that. The record says them, and a resumed run keeps those that it began with. results: the folder of the records;
    None: as `results_dir`. weights: whether to keep the weights of a run that ends, in a file beside its record that is
    complete before the record is there. until: the moment of time.monotonic() by which a run is to have left its
    checkpoint and stopped; None: never. way: the fastest of `capture.WAYS` to try on a CUDA device. recompute: whether
    to compute activations twice, for want of memory, even where the estimate does not ask for it.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    results: Path | None = None
    weights: bool = False
    until: float | None = None
    way: str = COMPILED
    recompute: bool = False


def train(run, report=nothing, should_stop=never, **how):
    """Train a run to its end, from its checkpoint if it has one, and write its record; returns the record.

    report(event): called with {"kind": "start" | "step" | "entry" | "note", "run": name, "iteration": i, "iterations":
    of, "seconds": so far} and, for "entry", the newest values of the curve by column, for "note" a "line" to show.
    should_stop(): asked after every iteration; once true, the state is checkpointed and None returned, as before the
    moment `until`. how: fields of `How`.
    Raises UsageError for a record or checkpoint of another recipe, where another process trains the same run, and where
    weights are asked of a run that ended without keeping them.
    """
    how = How(**how)
    with process_kept(), stream(how.device):
        iterations = training(run, how, report, should_stop)
        while True:
            try:
                next(iterations)
            except StopIteration as end:
                return end.value


def timed(run, device="cpu", precision="fp32", seconds=3.0):
    """Device seconds of one iteration of a run on this machine, from its first ones; nothing of them is kept.

    seconds: for about how long. Evaluations, which the whole run has too, are left out.
    """
    with process_kept(), stream(device):
        torch.set_num_threads(How.threads)
        be_exact(device)
        state = _state_class(run)(run.recipe, run.seed, device, precision)
        state.speed_up(nothing)
        state.step()  # the first makes what all others use
        clock, until = Clock(state), time.monotonic() + seconds
        while state.iteration == 1 or (time.monotonic() < until and not state.finished):
            state.step()
        float(state.on_device.loss_sum)  # a GPU has ended only now
        clock.read()
        return state.device_seconds / (state.iteration - 1)


@contextmanager
def process_kept():
    """Puts back at its end what training changes of the process: the number of threads, and torch's random stream."""
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)


def stream(device):
    """A context in which work on a CUDA device goes to a stream of its own, as a recorded step needs it."""
    return nullcontext() if device == "cpu" else torch.cuda.stream(torch.cuda.Stream(device))


def training(run, how, report=nothing, should_stop=never):
    """A generator that does what `train` does, an iteration at a time; it returns what `train` returns."""
    choose(how.precision, PRECISIONS, "precision")
    environment.suits(how.precision, how.device)
    kind = _state_class(run)
    if how.weights:
        check_installed()
    record = ended(run, how)
    if record is not None or distributed.any_of(not Deadline(how.until).leaves_a_start):
        return record
    # of processes that train a run together, the first holds its lock for all
    with nullcontext() if distributed.rank() else locked(run, how.results):
        record = records.read(run, how.results)  # another process may have ended it while we waited
        return record or (yield from _training(run, kind, how, report, should_stop))


@contextmanager
def locked(run, results=None, patience=LOCK_SECONDS):
    """Holds the run's lock, so that no other process trains it; beside a record, nothing else is left at the end.

    patience: seconds to wait for another process that holds it. Raises UsageError if it still does, or if the disk
    fails on the way.
    """
    try:
        run.folder(results).mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(run.lock_path(results), timeout=patience):
            yield
            if run.record_path(results).exists():
                _tidy(run, results)
    except filelock.Timeout:
        raise UsageError(f"{run.name} is being trained by another process; wait for it, or stop it") from None
    except OSError as error:
        raise UsageError(refusal(error)) from error


def ended(run, how=How()):
    """The record of a run that has ended, else None; what a kill just before the end left beside it is removed.

    Raises UsageError for a record that is damaged or of another recipe, and where weights are asked of a run that
    finished without keeping them.
    """
    results = how.results
    record = records.read(run, results)
    if record is None:
        return None
    if how.weights and record["status"] == "finished" and not run.weights_path(results).exists():
        raise UsageError(
            f"{run.name} ended without keeping its weights: move {run.record_path(results)} away to train it again"
        )
    if any(map(os.path.lexists, _leftovers(run, results))):
        # a process that holds the lock tidies up itself, and where nothing can be written, things stay as they are
        with suppress(OSError), filelock.FileLock(run.lock_path(results), blocking=False):
            _tidy(run, results)
    return record


def _leftovers(run, results):
    """What need not lie beside a record."""
    written = run.record_path(results), run.checkpoint_path(results), run.weights_path(results)
    return [run.checkpoint_path(results), *map(records.partial_of, written), run.lock_path(results)]


def _tidy(run, results):
    for path in _leftovers(run, results):
        with suppress(OSError):  # the record is there all the same
            path.unlink()


def _state_class(run):
    if not isinstance(run.recipe.protocol, ImageNetProtocol):
        if distributed.size() > 1:
            raise UsageError(f"{run.name} is trained by one process; got {distributed.size()}: run it without torchrun")
        return WatchedState if run.watched else State
    if run.watched:
        raise UsageError(f"{run.name} cannot be watched: the units are measured on CIFAR and digits")
    return ImageNetState


def _training(run, kind, how, report, should_stop):
    deadline = Deadline(how.until)
    saved = checkpoint.read(run, how.precision, how.device, how.results)
    threads = saved["threads"] if saved else how.threads
    torch.set_num_threads(threads)
    be_exact(how.device)
    state = kind(run.recipe, run.seed, how.device, how.precision, how.recompute)
    if saved:
        state.load_dict(saved["state"])
    distributed.agree(state.iteration)

    def tell(kind, **values):
        total = run.recipe.protocol.iterations
        report(
            {"kind": kind, "run": run.name, "iteration": state.iteration, "iterations": total, "seconds": state.seconds}
            | values
        )

    tell("start")
    clock, last_checkpoint, last_report, took = Clock(state), time.monotonic(), 0.0, 0.0
    environments = saved.get("environments", []) if saved else []

    def say(line):
        tell("note", line=f"{run.name}: {line}")

    state.speed_up(say, max([how.way, *(each["way"] for each in environments[-1:])], key=ALL_WAYS.index))
    _note_environment(environments, state, how.device, say)
    finite = True
    while finite and not state.finished:
        state.step()
        if state.due:
            finite = state.enter()
            clock.read()
            tell("entry", **{column: values[-1] for column, values in state.curve.items()})
        now, stop = time.monotonic(), distributed.any_of(deadline.near() or should_stop())
        if now - last_report > REPORT_SECONDS:
            clock.read()
            tell("step")
            last_report = now
        if distributed.rank() == 0 and (
            stop or now - last_checkpoint > max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * took)
        ):
            clock.read()
            checkpoint.save(run, state, threads, environments, how.results)
            last_checkpoint = time.monotonic()
            took = last_checkpoint - now
        if stop:
            return None
        yield
    clock.read()
    record = records.completed(run, _outcome(state, finite, how, threads, environments))
    if distributed.rank():
        return record
    if how.weights and finite:  # before the record: once that is there, the run is never trained again
        save(run.weights_path(how.results), state.network, record)
    records.store(run, record, how.results)
    return record


def _note_environment(environments, state, device, say):
    """Add what a CUDA run trains in from here on, if it is not what it trained in before; and say so."""
    if (now := environment.of(device, state.way.name)) is None or state.finished:
        return
    before = environments[-1] if environments else now
    if difference := environment.changes(before, now):
        say(f"goes on in another environment, which may change last bits: {difference}")
    if difference or not environments:
        environments.append({"iteration": state.iteration, **now, "agreement": state.way.agreement})


def _outcome(state, finite, how, threads, environments):
    return {
        "status": "finished" if finite else "diverged",
        "test_error": state.curve["test_error"][-1],
        "diverged_at": None if finite else state.iteration,
        "precision": how.precision,
        "device": device_name(how.device),
        "threads": threads if how.device == "cpu" else None,
        "wall_seconds": round(state.seconds, 1),
        "device_seconds": round(state.device_seconds * distributed.size(), 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": metadata.version("torchvision"),  # its import takes as long as torch's
            "numpy": numpy.__version__,
        },
        "data_checksum": state.data_checksum,
        **({"environments": environments} if environments else {}),
        **state.results(),
    }
