"""Several runs at once: on the CPU one process a core, on a CUDA device one run after the other.

Each run ends with the same numbers as alone. This is the seam for training several at once on one device; beyond one
machine, `train` is a plain function of a run that any cluster framework can call.
"""

import multiprocessing
import os
import queue
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from .. import records
from ..errors import UsageError
from .loop import nothing, train


class Interrupted(Exception):
    """Ctrl-C or a polite kill, after every run under way has left a checkpoint."""


def cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_all(runs, device="cpu", precision="fp32", results=None, weights=False, report=nothing):
    """Train all runs that have no record; returns {run: its record, or the UsageError that it met}, in their order.

    Each has the numbers of `train` alone with as many threads. `report` gets the events of `train`. Runs that go wrong
    do not stop the others. On SIGINT or SIGTERM all runs under way leave a checkpoint, and Interrupted is raised.
    """
    outcomes = {}
    for run in runs:
        try:
            outcomes[run] = records.read(run, results)
        except UsageError as error:
            outcomes[run] = error
    if weights:  # a run that ended without keeping them is answered by `train`
        ended = [run for run in runs if isinstance(outcomes[run], dict)]
        outcomes |= {run: _outcome_of(run, (device, precision, None, results, weights), report, None) for run in ended}
    waiting = [run for run in runs if outcomes[run] is None]
    if not waiting:
        return outcomes
    with _interrupt() as asked:
        if device == "cpu":
            # as many processes as the whole plan can use, not what is left of it: a plan that goes on after a kill
            # must give each run the threads, and so the last bits, that it would have had
            processes = min(cores(), len(runs))
            how = (device, precision, cores() // processes, results, weights)
            outcomes |= _in_processes(waiting, processes, how, report, asked)
        else:
            how = (device, precision, None, results, weights)
            outcomes |= {run: _outcome_of(run, how, report, asked.is_set) for run in waiting if not asked.is_set()}
        if asked.is_set():
            raise Interrupted
    return outcomes


@contextmanager
def _interrupt():
    """An event that SIGINT and SIGTERM set, in place of an exception in the middle of a step."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome_of(run, how, report, should_stop):
    try:
        return train(run, *how, report=report, should_stop=should_stop)
    except UsageError as error:
        return error


def _in_processes(waiting, processes, how, report, asked):
    context = multiprocessing.get_context("spawn")
    events, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(processes, context, _enter_worker, (events, stop, os.getpid()))
    futures = {pool.submit(_work, run, how): run for run in waiting}
    try:
        pending = set(futures)
        while pending and not asked.is_set():
            done, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            _drain(events, report)
            for future in done:
                future.result()  # a process that was killed is noticed here
    except BrokenProcessPool:
        raise UsageError(
            "a training process was killed from outside, often for want of memory; "
            "its checkpoint is kept: run the same command again, with --row for fewer runs at once"
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


_worker = {}


def _enter_worker(events, stop, parent):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _worker.update(events=events, stop=stop, parent=parent)


def _work(run, how):
    def should_stop():
        orphaned = os.getppid() != _worker["parent"]  # the parent was killed: leave a checkpoint and go too
        if orphaned:
            _worker["events"].cancel_join_thread()
        return orphaned or _worker["stop"].is_set()

    return None if should_stop() else _outcome_of(run, how, _worker["events"].put, should_stop)
