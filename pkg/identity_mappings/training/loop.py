"""One run from where it stands to its record."""

import os
import platform
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy
import torch
import torchvision

from ..errors import UsageError, choose
from ..experiments.protocols import ImageNetProtocol
from ..results import records
from ..weights.files import check_installed, save
from . import checkpoint, distributed
from .imagenet import ImageNetState
from .state import Clock, State
from .step import PRECISIONS
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

    device: "cpu" or "cuda". precision: one of PRECISIONS. threads: CPU threads; a resumed run keeps those it began
    with, for they may change the last bits; None: torch's own number. results: the folder of the records; None: as
    `results_dir`. weights: whether to keep the weights of a run that ends, in a file beside its record that is complete
    before the record is there.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = None
    results: Path | None = None
    weights: bool = False


def train(run, report=nothing, should_stop=never, **how):
    """Train a run to its end, from its checkpoint if it has one, and write its record; returns the record.

    report(event): called with {"kind": "start" | "step" | "entry" | "note", "run": name, "iteration": i, "iterations":
    of, "seconds": so far} and, for "entry", the newest values of the curve by column, for "note" a "line" to show.
    should_stop(): asked after every iteration; once true, the state is checkpointed and None returned. how: fields of
    `How`.
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
    if how.weights:
        check_installed()
    results = how.results
    record = records.read(run, results)
    if record is not None:
        if how.weights and record["status"] == "finished" and not run.weights_path(results).exists():
            raise UsageError(
                f"{run.name} ended without keeping its weights: move {run.record_path(results)} away to train it again"
            )
        return record
    run.folder(results).mkdir(parents=True, exist_ok=True)
    try:
        with _locked(run, results):
            record = records.read(run, results)  # another process may have ended it while we waited
            record = record or (yield from _training(run, how, report, should_stop))
            if record and distributed.rank() == 0:
                run.lock_path(results).unlink(missing_ok=True)
            return record
    except filelock.Timeout:
        raise UsageError(f"{run.name} is being trained by another process; wait for it, or stop it") from None


def _locked(run, results):
    """The run's lock as a context; of the processes that train a run together, the first holds it for all."""
    return nullcontext() if distributed.rank() else filelock.FileLock(run.lock_path(results), timeout=LOCK_SECONDS)


def _state_class(run):
    if not isinstance(run.recipe.protocol, ImageNetProtocol):
        if distributed.size() > 1:
            raise UsageError(f"{run.name} is trained by one process; got {distributed.size()}: run it without torchrun")
        return WatchedState if run.watched else State
    if run.watched:
        raise UsageError(f"{run.name} cannot be watched: the units are measured on CIFAR and digits")
    return ImageNetState


def _training(run, how, report, should_stop):
    saved = checkpoint.read(run, how.precision, how.device, how.results)
    threads = saved["threads"] if saved else how.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    be_exact(how.device)
    state = _state_class(run)(run.recipe, run.seed, how.device, how.precision)
    if saved:
        state.load_dict(saved["state"])

    def tell(kind, **values):
        total = run.recipe.protocol.iterations
        report(
            {"kind": kind, "run": run.name, "iteration": state.iteration, "iterations": total, "seconds": state.seconds}
            | values
        )

    tell("start")
    clock, last_checkpoint, last_report, took = Clock(state), time.monotonic(), 0.0, 0.0
    state.speed_up(lambda line: tell("note", line=f"{run.name}: {line}"))
    finite = True
    while finite and not state.finished:
        state.step()
        if state.due:
            finite = state.enter()
            clock.read()
            tell("entry", **{column: values[-1] for column, values in state.curve.items()})
        now, stop = time.monotonic(), distributed.any_of(should_stop())
        if now - last_report > REPORT_SECONDS:
            clock.read()
            tell("step")
            last_report = now
        if distributed.rank() == 0 and (
            stop or now - last_checkpoint > max(CHECKPOINT_SECONDS, CHECKPOINT_SHARE * took)
        ):
            clock.read()
            checkpoint.save(run, state, threads, how.results)
            last_checkpoint = time.monotonic()
            took = last_checkpoint - now
        if stop:
            return None
        yield
    clock.read()
    record = records.completed(run, _outcome(state, finite, how, threads))
    if distributed.rank():
        return record
    if how.weights and finite:  # before the record: once that is there, the run is never trained again
        save(run.weights_path(how.results), state.network, record)
    records.store(run, record, how.results)
    checkpoint.remove(run, how.results)
    return record


def _outcome(state, finite, how, threads):
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
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
        },
        "data_checksum": state.data_checksum,
        **state.results(),
    }


def be_exact(device):
    """fp32 means fp32: no TF32 in convolutions or matrix products, and no algorithm chosen by a timing.

    On CUDA also what runs beside each other need, to be set before the device is first used: a workspace of cuBLAS
    that does not depend on the other streams, and as many queues to the device as there are streams.
    """
    if device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def device_name(device):
    """The device as a record names it."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return models[0] if models else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def resolve_device(device):
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". Raises UsageError for a CUDA device that is not there."""
    choose(device, ("auto", "cpu", "cuda"), "device")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("device cuda needs a CUDA device that torch can use; got none: use --device cpu")
    return ("cuda" if available else "cpu") if device == "auto" else device
