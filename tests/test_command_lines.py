"""Command lines that a person may write, right or wrong: both answer each with a status and a few lines."""

import os
import subprocess
import sys
from pathlib import Path

import invoke
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import tasks  # noqa: E402

from identity_mappings import commands  # noqa: E402
from identity_mappings.__main__ import main, parser  # noqa: E402
from identity_mappings.data import cifar  # noqa: E402
from identity_mappings.errors import UsageError  # noqa: E402
from identity_mappings.machines import bench  # noqa: E402
from identity_mappings.pages import notebooks  # noqa: E402
from identity_mappings.pages.book import site  # noqa: E402

LINES = 12  # of standard error; argparse repeats a command's usage

# What a flag may be followed by: nothing of use, numbers of every size and script, words that are right somewhere.
WORDS = (
    *(
        "",
        " ",
        "-",
        "--",
        "--table",
        "abc",
        "é",
        "²",
        "٣",
        "\udcff",
        "a\nb",
        "%s{}",
        "../..",
        "/proc/nope",
        "x" * 5_000,
    ),
    *("0", "-1", "1", "2", "8", "14", "20", "110", "1.5", "1e3", "0x10", " 7 ", "nan", "inf", "-inf", "1e-400"),
    *("10001", "99999", str(2**32), str(2**63), "9" * 100, "9" * 5_000, "-" + "9" * 100),
    *("3", "gate-bias", "plain", "smoke", "quick", "paper", "cpu", "cuda", "fp32", "bf16", "cifar10", "torch7"),
)

_MAIN = parser()._subparsers._group_actions[0].choices
OF_MAIN = {name: [a.option_strings[-1] for a in made._actions if a.option_strings] for name, made in _MAIN.items()}
_TASKS = invoke.Collection.from_module(tasks)
OF_TASKS = {context.name: [f for f in context.flags if f.startswith("--")] for context in _TASKS.to_contexts()}
for unflagged in ("test", "notebooks", "readme"):  # the suite within itself; and two that take no value
    del OF_TASKS[unflagged]


@st.composite
def lines(draw, flags_of):
    """A command and some of its flags, each with a word or without; some words of no flag."""
    command = draw(st.sampled_from(sorted(flags_of)))
    line = [command]
    for flag in draw(st.lists(st.sampled_from(flags_of[command] + ["--nosuch"]), max_size=4)):
        word = draw(st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_characters="\0"), max_size=5)))
        line += draw(st.sampled_from([[f"{flag}={word}"], [flag, word], [flag]]))
    if command in ("train", "watch", "table", "reproduce") and draw(st.booleans()):
        line += ["--table", draw(st.sampled_from(["1", "3", "choices"]))]
    return line + draw(st.lists(st.sampled_from(WORDS), max_size=1))


@pytest.fixture
def harmless(tmp_path, monkeypatch):
    """Commands that do all but the long part: they train, measure, execute, build and download nothing."""
    monkeypatch.chdir(tmp_path)
    for variable in ("RESULTS", "DATA"):
        monkeypatch.setenv(f"IDENTITY_MAPPINGS_{variable}", str(tmp_path / variable.lower()))

    def no_network(_):
        raise OSError("no network")

    def no_cluster(_):
        raise UsageError("no cluster")

    monkeypatch.setattr(invoke.Context, "run", lambda *_, **__: None)  # the trials of `chaos`
    monkeypatch.setattr(commands, "train_runs", lambda *_: {})
    monkeypatch.setattr(commands, "left", lambda *_: "")
    monkeypatch.setattr(commands, "doctor", lambda *_, **__: None)
    monkeypatch.setattr(commands.clusters, "connected", no_cluster)
    monkeypatch.setattr(commands.queue, "candidates", lambda *_: [])
    monkeypatch.setattr(notebooks, "execute", lambda *_: None)
    monkeypatch.setattr(cifar, "_torchvision", no_network)
    monkeypatch.setattr(bench, "floors", lambda _: {})
    monkeypatch.setattr(bench, "trainers", lambda *_: ())
    for name in ("build", "serve", "server", "printer", "print_pdf"):
        monkeypatch.setattr(site, name, lambda *_: None)


def answered(call, line, capsys):
    """Asserts that a call of a command line ends with 0 or 2 and a few lines; returns (its status, those lines)."""
    try:
        status = call(line)
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status in (0, None, 2), (line, status, said)
    assert said.count("\n") <= LINES and "Traceback" not in said, (line, said)
    assert (status == 2) == bool(said), (line, status, said)
    return status, said


def as_tasks(line):
    invoke.Program(namespace=_TASKS).run(["invoke", *line])


QUIET = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@QUIET
@given(lines(OF_MAIN))
@example(["train", "--table", "1", "--depth", "0"])
@example(["train", "--table", "1", "--seed", str(2**32)])
@example(["bench", "--seconds", "nan"])
@example(["bench", "--batch", "6000"])
@example(["bench", "--depth", "6000000002"])
def test_any_line_to_the_module_is_answered(harmless, capsys, line):
    answered(main, line, capsys)


@QUIET
@given(lines(OF_TASKS))
@example(["reproduce", "--table", "1", "--depth=abc"])
@example(["reproduce", "--table", "1", "--seeds", "9" * 100])
@example(["reproduce", "--table", "1", "--seeds", "²"])
@example(["book", "--port", "99999", "--serve"])
@example(["bench", "--seconds", "abc"])
@example(["chaos", "--minutes", "abc"])
@example(["chaos", "--minutes", "inf"])
@example(["chaos", "--nodes=x"])
def test_any_line_to_invoke_is_answered(harmless, capsys, line):
    answered(as_tasks, line, capsys)


@pytest.mark.parametrize("flag", ["--depth", "--iterations", "--width"])
@pytest.mark.parametrize("call, command", [(main, "train"), (as_tasks, "reproduce")], ids=["module", "invoke"])
def test_nought_is_no_number_of_layers_iterations_or_channels(harmless, capsys, call, command, flag):
    """0 once stood for "not given" in invoke, and the whole row was trained."""
    status, said = answered(call, [command, "--table", "1", "--tier", "smoke", f"{flag}=0"], capsys)
    assert status == 2 and "got '0'" in said or "got 0" in said


@pytest.mark.parametrize("seeds, status", [("1", 0), ("10000", 0), ("10001", 2), ("10000000", 2), ("9" * 100, 2)])
def test_the_number_of_seeds_has_a_limit_that_is_said(harmless, capsys, monkeypatch, seeds, status):
    monkeypatch.setattr(commands, "name_kept", lambda *_: None)
    line = ["reproduce", "--table", "1", "--row", "plain", "--tier", "smoke", "--seeds", seeds]
    ended, said = answered(as_tasks, line, capsys)
    assert (ended or 0) == status and (not status or " to 1" in said)


@pytest.mark.parametrize(
    "line, status, said",
    [
        (["invoke", "reproduce"], 2, "'reproduce' did not receive required positional arguments: 'table'\n"),
        (["invoke", "--help", "nosuch"], 2, "No idea what 'nosuch' is!\n"),
        (["invoke", "reproduce", "--table", "1", "--tier=\udcff"], 2, "tier must be one of: "),
        (["identity_mappings", "table", "--table", "²"], 2, "table or study must be one of: "),
    ],
)
def test_so_it_is_in_a_process_of_its_own(line, status, said):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "pkg"), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", *line]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == status and ended.stderr.startswith(said) and ended.stderr.count("\n") == 1
