"""Processes that work for this one: they leave Ctrl-C to it, and they go when it is gone, however it went."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from .guard import STOPS


class Pool(ProcessPoolExecutor):
    """A pool of fresh processes. Left by an exception, it kills them: nobody waits for what they would give.

    enter(*arguments): called in each process at its start. leave(): in a process whose parent is gone, before it goes.
    """

    def __init__(self, processes, enter=None, arguments=(), leave=None):
        context = multiprocessing.get_context("spawn")
        super().__init__(processes, context, _enter, (enter, arguments, leave))

    def submit(self, *arguments, **named):
        with signals_wait():  # the first starts the processes
            return super().submit(*arguments, **named)

    def __exit__(self, kind, *more):
        if kind is not None:
            kill()
        return super().__exit__(kind, *more)


def kill():
    """End the processes that this one has started, in the middle of what they do."""
    for process in multiprocessing.active_children():
        process.kill()


@contextmanager
def signals_wait():
    """SIGINT and SIGTERM wait until the end of this context; a process that is started in it never gets them.

    So is a Ctrl-C, which a terminal sends to all, answered by this process alone, and even while others start.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(enter, arguments, leave):
    follow_parent(leave)
    if enter:
        enter(*arguments)


def follow_parent(leave=None):
    """Have this process end when its parent has, after a call of leave().

    A pool does not see to it: each of its processes holds both ends of the queue of tasks, and never sees that end.
    """

    def follow():
        multiprocessing.parent_process().join()
        if leave:
            leave()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
