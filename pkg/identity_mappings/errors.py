"""What a mistake, a failing disk and Ctrl-C are answered with: one line each.

A line says what was expected, what came, and what to do. `guard` prints it and turns it into an exit status.
"""

import errno
import os
import re
import reprlib
from difflib import SequenceMatcher
from pathlib import Path

SHOWN = 80  # characters of a user's word that a message repeats


class UsageError(ValueError):
    """A user's mistake. The command line prints its one line and exits with 2; a library user sees a ValueError."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a polite kill: the signal's `number`; its words say what has become of the work under way."""

    def __init__(self, words, number):
        super().__init__(words)
        self.number = number


def choose(given, valid, what):
    """`given` if it is one of `valid`; else a UsageError that lists the valid ones, the closest first."""
    valid, word = [str(name) for name in valid], str(given)
    if word in valid:
        return given
    ranked = sorted(valid, key=lambda name: -SequenceMatcher(None, name, word[:SHOWN]).ratio())  # stable in ties
    raise UsageError(f"{what} must be one of: {', '.join(ranked)}; got {shown(given)}")


def is_number(value):
    """Whether a value that may be anything is a finite number, of float32's range."""
    return type(value) in (int, float) and -1e38 < value < 1e38


def first_line(error):
    """What another library's error says, as part of a line of ours."""
    return str(error).partition("\n")[0] or repr(error)


def whole(given, what, least, most):
    """The whole number from `least` to `most` that a user wrote or computed; else a UsageError."""
    if re.fullmatch("-?[0-9]{1,18}", str(given)) and least <= int(given) <= most:
        return int(given)
    raise UsageError(f"{what} must be a whole number from {least:,} to {most:,}; got {shown(given)}")


def folder(path, variable):
    """The folder that a user chose with a variable of the environment, or might have chosen, as a Path.

    It need not be there yet. Raises UsageError where its home folder is not to be found, or a file lies in its place.
    """
    try:
        found = Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path} is in a home folder that cannot be found: set ${variable} to a folder") from None
    if not os.path.isdir(found) and os.path.exists(found):
        raise UsageError(f"{found} must be a folder; a file lies there: move it away, or set ${variable} to a folder")
    return found


def shown(given):
    """A user's word as a message repeats it: quoted, and in the middle cut short where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = SHOWN
    return short.repr(given)


_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose a place that you may read and write",
    errno.EPERM: "choose a place that you may read and write",
    errno.EEXIST: "move away what lies there",
    errno.EISDIR: "move away the folder that lies there",
    errno.ENOTDIR: "move away the file that lies in a folder's place",
    errno.ENOENT: "choose a place that is there",
    errno.ELOOP: "move away the link that leads back to itself",
}


def refusal(error):
    """The line for an OSError: the file, the system's reason, and what to do."""
    where = " ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno, "see to it")
    return (
        f"{where or 'a file or an output'}: {reason}: {remedy} and run the same command again; what has ended is kept"
    )
