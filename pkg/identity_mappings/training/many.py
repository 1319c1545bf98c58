"""Several runs at once: on the CPU one process a core, on a CUDA device as many as its memory takes, in one process.

Each run ends with the same numbers as alone. Processes that torchrun started train one run after another together.
Beyond one machine, `train` is a plain function of a run that any cluster framework can call.
"""

import multiprocessing
import queue
import signal
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace

import torch

from .. import environment
from ..data import SIZES
from ..errors import Interrupted, UsageError
from ..experiments.protocols import ImageNetProtocol
from ..guard import stops_answered_by
from ..hardware import cores
from ..iteration import memory
from ..iteration.capture import PLAIN
from ..results import records
from ..workers import Pool
from . import distributed
from .budget import Deadline
from .loop import How, ended, nothing, process_kept, stream, train, training
from .state import images


def train_all(runs, report=nothing, **how):
    """Train all runs that have no record; returns {run: its record, or the UsageError that it met}, in their order.

    how: fields of `How`. Each run has the numbers of `train` alone, whatever is trained beside it. `report` gets the
    events of `train`. Runs that go wrong do not stop the others. On SIGINT or SIGTERM all runs under way leave a
    checkpoint, and Interrupted is raised, which says how far the runs are. A run that has not ended by the moment
    `until` stays None, its checkpoint beside its record's place.
    """
    how = How(**how)
    environment.suits(how.precision, how.device)
    outcomes = standing(runs, how)
    waiting = [run for run in runs if outcomes[run] is None]
    distributed.agree([run.name for run in waiting])
    if not waiting or distributed.any_of(not Deadline(how.until).leaves_a_start):
        return outcomes
    with _interrupt() as asked:
        if distributed.size() > 1:
            outcomes |= _one_after_another(waiting, how, report, asked)
        elif how.device == "cpu":
            processes = _that_fit(waiting, cores(), how.precision, report)
            outcomes |= _in_processes(waiting, processes, how, report, asked)
        else:
            with process_kept():
                together = Together(waiting, how, report, asked.is_set)
            outcomes |= together.outcomes
            if together.left and not asked.is_set():
                outcomes |= _in_processes(together.left, 1, replace(how, way=PLAIN), report, asked)
        if distributed.any_of(asked.is_set()):  # where one process was asked, all stopped
            raise Interrupted(how_far(runs, how.results), getattr(asked, "number", signal.SIGTERM))
    return outcomes


def standing(runs, how):
    """{run: its record, None where it has none, or the UsageError that it met}."""
    outcomes = {}
    for run in runs:
        try:
            outcomes[run] = ended(run, how)
        except UsageError as error:
            outcomes[run] = error
    return outcomes


def how_far(runs, results):
    """What an interrupted command says: of its runs on disk, and so true whatever the moment."""
    done = sum(records.peek(run, results) is not None for run in runs)
    begun = sum(run.checkpoint_path(results).exists() for run in runs)
    return (
        f"interrupted: of {len(runs)} runs, {done} ended and {begun} left a checkpoint; "
        "the same command goes on from there"
    )


@contextmanager
def _interrupt():
    """An event that SIGINT and SIGTERM set, with their `number`, in place of an exception in the middle of a step."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield asked
        return

    def ask(number, _):
        asked.number = number
        asked.set()

    with stops_answered_by(ask):
        yield asked


def _outcome_of(run, how, report, should_stop):
    try:
        return train(run, report, should_stop, **vars(how))
    except UsageError as error:
        return error
    except Exception as error:
        if how.device == "cpu":
            raise
        return _failure(run, error)


def _failure(run, error):
    """What a run ends with whose libraries failed: cuDNN, cuBLAS, Triton, the device."""
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    return UsageError(
        f"{run.name} was stopped by {type(error).__name__} ({reason}): "
        f"the same command goes on from its last checkpoint"
    )


def _one_after_another(waiting, how, report, asked):
    """The outcomes of runs that all processes train together, a run at a time; the first process reports.

    A mistake ends all of them, for it may be one process's alone: torchrun sees it go, and stops the others.
    """
    outcomes = dict.fromkeys(waiting)
    for run in waiting:
        outcomes[run] = train(run, nothing if distributed.rank() else report, asked.is_set, **vars(how))
        if outcomes[run] is None:
            break
    return outcomes


class Together:
    """Runs that train at once in one process, each an iteration in turn on its own stream; `outcomes` as `train_all`'s.

    A launch on a CUDA device does not wait for it, so that one thread keeps all streams busy. Another run starts while
    fewer than `most` are under way and the device's free memory holds what it is estimated to need; the first starts
    in any case. Where memory runs out all the same, the run waits until another has ended, and from then on fewer
    train at once; alone, it goes on with recomputed activations. Runs that draw random numbers (dropout) share torch's
    one stream, and runs on ImageNet leave a device nothing: each trains alone. A run whose libraries fail ends by
    itself; where the device fails with it, all stop, and `left` are the runs to go on with, from their checkpoints, in
    another process.
    """

    def __init__(self, runs, how, report, should_stop, most=None, free=memory.free):
        self.waiting, self.under_way, self.outcomes = deque(runs), {}, {}
        self.how, self.report, self.should_stop, self.free = how, report, should_stop, free
        self.most = memory.side_by_side(how.device) if most is None else most
        self.recomputing, self.left = set(), []
        while self.under_way or (self.waiting and not should_stop()):
            while self._another():
                run = self.waiting.popleft()
                self.under_way[run] = stream(how.device), self._training(run)
                self._iterate(run)  # the first iteration takes all the memory that the run ever will
            at_once = len(self.under_way)
            while self.under_way and len(self.under_way) == at_once:
                for run in list(self.under_way):
                    if run in self.under_way:  # all are gone once the device is lost
                        self._iterate(run)

    def _training(self, run):
        how = replace(self.how, recompute=True) if run in self.recomputing else self.how
        return training(run, how, self.report, self.should_stop)

    def _another(self):
        if not self.waiting or len(self.under_way) >= self.most or self.should_stop():
            return False
        if not self.under_way:
            return True
        run, device = self.waiting[0], self.how.device
        if _alone(run) or any(map(_alone, self.under_way)):
            return False
        available, (train_images, *_) = self.free(device), images(run.recipe, run.seed, device)
        return available is None or memory.need(run.recipe, train_images.size, self.how.precision) <= available

    def _iterate(self, run):
        context, iterations = self.under_way[run]
        short = failure = None
        try:
            with context:
                next(iterations)
                return
        except StopIteration as end:
            self.outcomes[run] = end.value
        except UsageError as error:
            self.outcomes[run] = error
        except torch.OutOfMemoryError:
            short = True
        except Exception as error:
            failure = _failure(run, error)
        del self.under_way[run], iterations  # and with the error's frames, gone by now, all that the run held
        if short:
            self._make_room(run)
        elif failure:
            self._end(run, failure)

    def _end(self, run, failure):
        """The run ends with its failure, or where the device is lost, all runs go to another process."""
        if environment.alive(self.how.device):
            self.outcomes[run] = failure
            return
        _note(
            self.report,
            run,
            f"{failure}: done now for all runs, {PLAIN}, in a process of its own; this one lost the device",
        )
        self.left = [run, *self.under_way, *self.waiting]
        for _, iterations in self.under_way.values():
            iterations.close()
        self.under_way.clear()
        self.waiting.clear()

    def _make_room(self, run):
        if self.under_way:
            self.most = len(self.under_way)
            self.waiting.appendleft(run)
            _note(self.report, run, f"{run.name}: out of memory; from here on no more than {self.most} at once")
        elif run not in self.recomputing:
            self.recomputing.add(run)
            self.waiting.appendleft(run)
            _note(self.report, run, f"{run.name}: out of memory; it goes on with its activations computed twice")
        else:
            self.outcomes[run] = UsageError(
                f"{run.name} does not fit into the device's memory, with nothing else of ours there: train it in bf16, "
                f"on a device with more, or free what other processes hold"
            )


def _alone(run):
    return run.recipe.network.shortcut.kind == "dropout" or isinstance(run.recipe.protocol, ImageNetProtocol)


def _note(report, run, line):
    report({"kind": "note", "run": run.name, "iteration": 0, "iterations": 0, "seconds": 0.0, "line": line})


def _that_fit(runs, most, precision, report):
    """How many of the runs main memory holds at once, one in any case; where fewer than `most`, a line says so."""
    needs = [memory.need(run.recipe, SIZES[run.recipe.dataset], precision) for run in runs]
    most = min(most, len(runs))
    fit = memory.at_once(needs, most, memory.main())
    if fit < most:
        _note(report, runs[0], f"main memory holds {fit} of these runs at once, not {most}: training fewer at once")
    return fit


def _in_processes(waiting, processes, how, report, asked):
    context = multiprocessing.get_context("spawn")
    events, stop = context.Queue(), context.Event()
    pool = Pool(processes, _enter_worker, (events, stop), _leave)
    futures = {}
    try:
        futures |= {pool.submit(_work, run, how): run for run in waiting}
        pending = set(futures)
        while pending and not asked.is_set():
            done, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            _drain(events, report)
            for future in done:
                future.result()  # a process that was killed is noticed here
    except BrokenProcessPool:
        raise UsageError(
            "a training process was killed from outside, often for want of memory: "
            "the same command goes on from the checkpoints that there are; with --row it trains fewer runs at once"
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        _drain(events, report)
    return {run: future.result() for future, run in futures.items() if future.done() and not future.cancelled()}


def _drain(events, report):
    while True:
        try:
            report(events.get_nowait())
        except queue.Empty:
            return


_worker = {"busy": threading.Lock(), "orphaned": threading.Event()}
LEAVING_SECONDS = 300.0  # that a worker without a parent has for the iteration under way and its checkpoint


def _enter_worker(events, stop):
    _worker.update(events=events, stop=stop)


def _leave():
    """The parent is gone: have the run under way leave a checkpoint, and wait for it."""
    _worker["orphaned"].set()
    _worker["busy"].acquire(timeout=LEAVING_SECONDS)


def _work(run, how):
    def should_stop():
        return _worker["orphaned"].is_set() or _worker["stop"].is_set()

    with _worker["busy"]:
        return None if should_stop() else _outcome_of(run, how, _worker["events"].put, should_stop)
