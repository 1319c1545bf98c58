"""What a user's mistake is answered with: one line that says what was expected, what came, and what to do."""

from difflib import SequenceMatcher


class UsageError(ValueError):
    """A user's mistake. The command line prints its one line and exits with 2; a library user sees a ValueError."""


def choose(given, valid, what):
    """`given` if it is one of `valid`; else a UsageError that lists the valid ones, the closest first."""
    valid = [str(name) for name in valid]
    if str(given) in valid:
        return given
    ranked = sorted(valid, key=lambda name: -SequenceMatcher(None, name, str(given)).ratio())  # stable in ties
    raise UsageError(f"{what} must be one of: {', '.join(ranked)}; got {given!r}")


def is_number(value):
    """Whether a value that may be anything is a finite number, of float32's range."""
    return type(value) in (int, float) and -1e38 < value < 1e38


def first_line(error):
    """What another library's error says, as part of a line of ours."""
    return str(error).partition("\n")[0] or repr(error)
