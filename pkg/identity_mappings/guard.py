"""What a command line ends with, whatever happens: its exit status, and one line on standard error for what went wrong.

Light, so that a Ctrl-C is answered from the first moment: torch is imported by the actions that are guarded here.
"""

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress

from .errors import Interrupted, UsageError, refusal

STOPS = (signal.SIGINT, signal.SIGTERM)
AGAIN_SECONDS = 0.05
KEPT = "interrupted: what has ended is kept; the same command goes on from there"


def guarded(action):
    """Run `action`; returns the exit status.

    0; 2 after a user's mistake, and where the system refuses a file or an output; 130 after Ctrl-C and 143 after
    SIGTERM. An error of ours is raised as it is.
    """
    _show_any_character()
    with _stopped_by_signals() as came:
        try:
            action()
            if sys.stdout:  # None where the output was closed before we began
                sys.stdout.flush()
            status, line = 0, None
        except BaseException as error:
            deafen()
            status, line = _answer(error, came)
            if status is None:
                raise
        with suppress(OSError):
            if line:
                print(line, file=sys.stderr, flush=True)
        _let_go(sys.stdout)
        _let_go(sys.stderr)
    return status


def deafen():
    """Ignore Ctrl-C and SIGTERM from here on: the end has come already."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _answer(error, came):
    """(exit status, line) for what an action raised, after the signals that `came`; (None, None) for our own errors."""
    if isinstance(error, Interrupted):
        return 128 + error.number, str(error)
    if came or isinstance(error, KeyboardInterrupt):  # whatever a library makes of an exception in its middle
        return 128 + (came or [signal.SIGINT])[0], KEPT
    if isinstance(error, UsageError):
        return 2, str(error)
    if isinstance(error, OSError):
        return 2, refusal(error)
    return None, None


@contextmanager
def _stopped_by_signals():
    """Have SIGINT and SIGTERM raise Interrupted in the action; gives the list of the signals that came.

    Python ignores what is raised in a destructor, or in a callback of its own while it imports. A signal whose
    Interrupted is lost there is sent again a moment later.
    """
    came, again, former = [], [], sys.unraisablehook

    def stop(number, _):
        came.append(number)
        raise Interrupted(KEPT, number)

    def ignored(what):
        if not isinstance(what.exc_value, Interrupted):
            former(what)
            return
        again.append(threading.Timer(AGAIN_SECONDS, _send, [what.exc_value.number]))
        again[-1].daemon = True
        again[-1].start()

    sys.unraisablehook = ignored
    try:
        with stops_answered_by(stop):
            yield came
    finally:
        sys.unraisablehook = former
        for timer in again:
            timer.cancel()


def _send(number):
    """Send a signal to the main thread, out of any sleep."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, number)
    else:  # on Windows
        signal.raise_signal(number)


@contextmanager
def stops_answered_by(handler):
    """Have handler(number, frame) answer SIGINT and SIGTERM until the end of this context."""
    before = {number: signal.signal(number, handler) for number in STOPS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _show_any_character():
    """Write a character that the terminal's encoding lacks as its code, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _let_go(stream):
    """Have what an output could not take go nowhere; Python would try again at its end, and complain."""
    try:
        if stream:
            stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
