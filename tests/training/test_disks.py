"""Disks that are full, broken or read-only, and results folders that are none: one line, and the same command heals."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
from conftest import small_run

from identity_mappings import UsageError
from identity_mappings.__main__ import main
from identity_mappings.guard import guarded
from identity_mappings.results import records
from identity_mappings.training import loop, many, train

ITERATIONS = 4


@pytest.fixture
def short(monkeypatch):
    """A run that writes a checkpoint after each of its four iterations, then its weights and its record."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", -1)
    return small_run(1, "original", iterations=ITERATIONS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = small_run(1, "original", iterations=ITERATIONS)
    return records.numbers(train(run, results=tmp_path_factory.mktemp("whole")))


class Failing:
    """Stands for a function of the system; its call number `at`, counted from 0, ends in an OSError."""

    def __init__(self, real, at, number):
        self.real, self.left, self.error = real, at, OSError(number, os.strerror(number))

    def __call__(self, *arguments, **named):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return self.real(*arguments, **named)


def writes_that_fail(monkeypatch, at, number):
    refusing = Failing(open, at, number)
    refusing.error = Refusing(refusing.error)

    def opened(path, mode):
        try:
            return refusing(path, mode) if mode == "wb" else open(path, mode)  # noqa: SIM115
        except Refusing as file:
            return file

    monkeypatch.setattr(records, "open", opened, raising=False)


class Refusing(Exception):
    """An open file that takes nothing."""

    def __init__(self, error):
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, _):
        raise self.error


def fsyncs_that_fail(monkeypatch, at, number):
    monkeypatch.setattr(records.os, "fsync", Failing(os.fsync, at, number))


def renames_that_fail(monkeypatch, at, number):
    monkeypatch.setattr(records.os, "replace", Failing(os.replace, at, number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("fail", [writes_that_fail, fsyncs_that_fail, renames_that_fail])
@pytest.mark.parametrize("at", range(ITERATIONS + 2))  # the checkpoints, the weights, the record
def test_a_disk_that_fails_once_is_one_line_and_the_same_call_heals(short, undisturbed, tmp_path, fail, at, number):
    other = replace(short, seed=1)
    (tmp_path / "kept").write_text("a finished run")
    with pytest.MonkeyPatch.context() as patch:
        fail(patch, at, number)
        with pytest.raises(
            UsageError, match=rf"^[^\n]*seed-0[^\n]*{os.strerror(number)}: [^\n]* the same command "
        ) as e:
            train(short, results=tmp_path, weights=True)
    assert not isinstance(e.value, OSError) and not list(tmp_path.rglob("*.partial"))
    assert not short.record_path(tmp_path).exists() and not other.record_path(tmp_path).exists()
    record = train(short, results=tmp_path, weights=True)
    assert records.numbers(record) == undisturbed
    assert sorted(p.name for p in short.folder(tmp_path).iterdir()) == ["seed-0.json", "seed-0.safetensors"]


def mounted(*options):
    return subprocess.run(["mount", *options], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 KB, which holds no checkpoint; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix" or not mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)):
        pytest.skip("this user may not mount a disk; the failing calls above are tested everywhere")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_and_one_mounted_for_reading(short, undisturbed, disk, capsys):
    def said(action):
        return guarded(action), capsys.readouterr().err

    def trains(run=short):
        return lambda: train(run, results=disk)

    status, line = said(trains())
    assert status == 2 and re.fullmatch(r".*seed-0.checkpoint.*: No space left on device: make room .*\n", line)
    assert mounted("-o", "remount,size=8m", str(disk))
    assert said(trains()) == (0, "")
    record = records.read(short, disk)
    assert records.numbers(record) == undisturbed
    assert mounted("-o", "remount,ro", str(disk))
    assert said(trains()) == (0, "") and records.read(short, disk) == record  # nothing is left to write
    status, line = said(trains(replace(short, seed=1)))
    assert status == 2 and re.fullmatch(r".*: Read-only file system: choose a place .*\n", line)


def a_file(results, _):
    results.write_text("no folder")


def a_folder(suffix):
    def make(_, run):
        run.record_path().with_suffix(suffix).mkdir(parents=True)

    return make


PLACES = {
    "a file in its place": (a_file, 2, 2, 2),
    "/proc": ("/proc", 2, 0, 0),
    "no such user": ("~nosuch/results", 2, 2, 2),
    "a folder for the record": (a_folder(".json"), 2, 0, 2),
    "a folder for the checkpoint": (a_folder(".checkpoint"), 2, 0, 0),
    "a folder for the unfinished checkpoint": (a_folder(".checkpoint.partial"), 2, 0, 0),
    "a folder for the lock": (a_folder(".lock"), 2, 0, 0),
}  # what makes the place, and with what `train`, `status` and `table` end


@pytest.mark.parametrize("place, train_ends, status_ends, table_ends", PLACES.values(), ids=PLACES)
def test_a_results_folder_that_is_none_is_one_line(
    short, tmp_path, monkeypatch, capsys, place, train_ends, status_ends, table_ends
):
    results = Path(place) if isinstance(place, str) else tmp_path / "results"
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(results))
    monkeypatch.setattr(many, "_in_processes", in_this_process)
    if callable(place):
        place(results, short)
    cut = ["--table", "1", "--tier", "smoke", "--depth", "8", "--iterations", str(ITERATIONS)]
    for line, expected in (
        (["train", *cut, "--row", "original"], train_ends),
        (["status"], status_ends),
        (["table", *cut], table_ends),
    ):
        status = main(line)
        assert (status, capsys.readouterr().err.count("\n")) == (expected, 1 if expected else 0), line


def in_this_process(waiting, _, how, report, asked):
    return {run: many._outcome_of(run, how, report, asked.is_set) for run in waiting}


@pytest.mark.parametrize("make", [lambda p: p.write_text("no folder"), lambda p: p.symlink_to(p)], ids=["file", "loop"])
def test_a_data_folder_that_is_none_is_one_line(tmp_path, monkeypatch, capsys, make):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / "data"))
    make(tmp_path / "data")
    assert main(["data", "--dataset", "cifar10"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_home_the_line_names_the_variable(monkeypatch, capsys):
    for variable in ("HOME", "XDG_CACHE_HOME", "IDENTITY_MAPPINGS_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the user is in no list of users
    assert main(["data", "--dataset", "cifar10"]) == 2
    assert "home folder that cannot be found: set $IDENTITY_MAPPINGS_DATA" in capsys.readouterr().err


# --- what a kill just before the end leaves beside the record


def left_by_a_kill(run, tmp_path):
    train(run, results=tmp_path)
    paths = [run.checkpoint_path(tmp_path), run.lock_path(tmp_path), run.record_path(tmp_path)]
    left = [*paths[:2], *map(records.partial_of, (paths[0], paths[2]))]
    for path in left:
        path.touch()
    return left


@pytest.mark.parametrize("look", [train, lambda run, results: many.train_all([run], results=results)])
def test_leftovers_beside_a_record_are_removed(short, tmp_path, look):
    left_by_a_kill(short, tmp_path)
    look(short, results=tmp_path)
    assert [p.name for p in short.folder(tmp_path).iterdir()] == ["seed-0.json"]


def test_leftovers_that_another_process_holds_stay(short, tmp_path):
    left = left_by_a_kill(short, tmp_path)
    with filelock.FileLock(short.lock_path(tmp_path)):
        record = train(short, results=tmp_path)
    assert record == records.read(short, tmp_path) and all(path.exists() for path in left)


TWICE = """
import resource, sys
from conftest import small_run
from identity_mappings.training import loop
loop.CHECKPOINT_SECONDS = 1e9  # one would make the difference between a run that has it and one that has none
for iterations in (30, 300):
    loop.train(small_run(1, "original", iterations=iterations), results=sys.argv[1])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_ten_times_the_iterations_take_no_more_memory(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    command = [sys.executable, "-c", TWICE, str(tmp_path)]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    short, long = map(int, ended.stdout.split())
    assert long < 1.03 * short
