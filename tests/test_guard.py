"""What a command line ends with: a status and one line, whatever happens to its files, its output and itself."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from identity_mappings import UsageError
from identity_mappings.guard import KEPT, guarded
from identity_mappings.progress import AsLongAsItIsSeen, Lines

PKG = Path(__file__).resolve().parents[1] / "pkg"


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    "error, status, line",
    [
        (UsageError("depth must be 6n+2; got 3"), 2, "depth must be 6n+2; got 3"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "a/b: No space left on device: make room and "),
        (
            OSError(errno.EROFS, "Read-only file system", "a"),
            2,
            "a: Read-only file system: choose a place ",
        ),
        (OSError(errno.EIO, "Input/output error"), 2, "a file or an output: Input/output error: "),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "a file or an output: Broken pipe: "),
        (OSError("no words of the system's"), 2, "a file or an output: no words of the system's: "),
        (KeyboardInterrupt(), 130, KEPT),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(capsys, error, status, line):
    assert guarded(raising(error)) == status
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_an_error_of_ours_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        guarded(raising(ZeroDivisionError()))
    assert guarded(lambda: None) == 0


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("becomes", [None, ImportError, OSError], ids=str)
def test_a_signal_is_one_line_whatever_a_library_makes_of_it(capsys, number, status, becomes):
    before = signal.getsignal(number)

    def action():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if becomes:
                raise becomes("half imported") from None
            raise

    assert guarded(action) == status
    assert capsys.readouterr().err == f"{KEPT}\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_answered_even_where_python_ignores_what_is_raised(capsys, number, status):
    class Destroyed:
        def __del__(self):
            signal.raise_signal(number)

    def action():
        Destroyed()
        time.sleep(60)
        raise AssertionError("the signal was lost")

    hook = sys.unraisablehook
    assert guarded(action) == status
    assert capsys.readouterr().err == f"{KEPT}\n"
    assert sys.unraisablehook == hook


def python(code, **options):
    """A process with the library on its path; torch is never imported in these, so that they take no time."""
    environment = os.environ | {"PYTHONPATH": str(PKG)} | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **(pipes | options))


SAYS = "import sys; from identity_mappings.guard import guarded; sys.exit(guarded(lambda: print('a · b' * 9)))"


def test_an_ascii_terminal_gets_a_characters_code():
    out, err = python(SAYS, env={"PYTHONIOENCODING": "ascii"}).communicate()
    assert (out.strip(), err) == (rb"a \xb7 b" * 9, b"")


def test_a_full_device_and_a_closed_pipe_are_one_line():
    with open("/dev/full", "w") as full:
        process = python(SAYS, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 2 and err.startswith(b"a file or an output: No space left on device: make room")
    assert err.count(b"\n") == 1
    reading, writing = os.pipe()
    os.close(reading)
    process = python(SAYS, stdout=writing)
    os.close(writing)
    _, err = process.communicate()
    assert process.returncode == 2 and err.startswith(b"a file or an output: Broken pipe: ")
    assert err.count(b"\n") == 1


def test_an_output_that_was_closed_from_the_start_is_no_matter():
    process = python(f"import os; os.close(1); {SAYS}")
    assert process.communicate()[1].count(b"\n") <= 1 and process.returncode in (0, 2)


WAITS = """
import sys, time
from identity_mappings.guard import guarded
def action():
    print("waiting", flush=True)
    time.sleep(60)
sys.exit(guarded(action))
"""


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_says_one_line(number, status):
    process = python(WAITS)
    assert process.stdout.readline() == b"waiting\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == f"{KEPT}\n".encode()
    assert process.returncode == status


def test_both_command_lines_reach_their_guard_without_torch():
    """So that a Ctrl-C in the seconds that torch takes to import is answered."""
    code = "import sys, identity_mappings.__main__; sys.exit('torch' in sys.modules)"
    process = python(code)
    assert process.wait() == 0
    code = f"import sys; sys.path.insert(0, {str(PKG.parent)!r}); import tasks; sys.exit('torch' in sys.modules)"
    assert python(code).wait() == 0


class Gone:
    """An output that nobody reads any more."""

    def __init__(self):
        self.written = 0

    def write(self, _):
        self.written += 1
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_progress_goes_on_when_its_output_is_gone():
    stream = Gone()
    event = {"kind": "start", "run": "a", "iteration": 0, "iterations": 9, "seconds": time.time()}
    with AsLongAsItIsSeen(Lines(stream)) as report:
        for _ in range(3):
            report(event)
    assert stream.written == 1
