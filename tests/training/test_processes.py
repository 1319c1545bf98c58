"""Trainings as processes: killed, interrupted, orphaned. None is left behind, and what is said of them is true."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from conftest import small_run
from looking import PATIENCE, children, is_there, until

from identity_mappings.guard import KEPT
from identity_mappings.results import records

PATH = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])

TRAINS_TWO = """
import sys
from conftest import small_run
from identity_mappings.training import many
many.cores = lambda: 2
runs = [small_run(1, "original", iterations=599), small_run(1, "conv-1x1", iterations=20)]
many.train_all(runs, results=sys.argv[1])
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_a_killed_parent_leaves_checkpoints_and_no_workers(tmp_path):
    """One worker trains when the parent is killed, one waits for another run."""
    long, short = small_run(1, "original", iterations=599), small_run(1, "conv-1x1", iterations=20)
    command = [sys.executable, "-c", TRAINS_TWO, str(tmp_path)]
    parent = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": PATH})
    until(lambda: records.read(short, tmp_path) and long.lock_path(tmp_path).exists())
    workers = children(parent.pid)
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    until(lambda: not any(map(is_there, workers)))
    assert records.read(long, tmp_path) or long.checkpoint_path(tmp_path).exists()
    with filelock.FileLock(long.lock_path(tmp_path), timeout=1):
        pass


def started(tmp_path, *more):
    """The command line training two runs in a session of its own, as from a terminal."""
    rows = ["--row", "original", "--row", "conv-1x1", "--tier", "smoke", "--depth", "8", "--iterations", "599"]
    command = [sys.executable, "-m", "identity_mappings", "train", "--table", "1", *rows, *more]
    environment = os.environ | {"PYTHONPATH": PATH, "IDENTITY_MAPPINGS_RESULTS": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def test_ctrl_c_while_torch_is_imported(tmp_path):
    process = started(tmp_path)
    until(lambda: "torch" in Path(f"/proc/{process.pid}/maps").read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, f"{KEPT}\n")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["workers start", "training"])
def test_what_is_said_of_an_interrupted_training_is_true(tmp_path, number, status, moment):
    """Ctrl-C reaches every process of the terminal; a polite kill the parent alone."""
    process = started(tmp_path)
    if moment == "training":
        assert "started" in process.stdout.readline()
    else:
        until(lambda: len(children(process.pid)) >= 2)
    send = os.killpg if number == signal.SIGINT else os.kill
    send(process.pid, number)
    _, said = process.communicate(timeout=PATIENCE)
    found = re.fullmatch(
        r"interrupted: of 2 runs, (\d) ended and (\d) left a checkpoint; the same command goes on from there\n", said
    )
    assert found and process.returncode == status, said
    assert int(found[1]) == len(list(tmp_path.rglob("seed-0.json")))
    assert int(found[2]) == len(list(tmp_path.rglob("seed-0.checkpoint")))
