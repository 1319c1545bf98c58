"""Pools of processes when the one that started them is interrupted or killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from looking import PATIENCE, children, is_there, until

from identity_mappings.guard import KEPT
from identity_mappings.workers import Pool

PKG = Path(__file__).resolve().parents[1] / "pkg"

SLEEPS = """
import sys, time
from identity_mappings.guard import guarded
from identity_mappings.workers import Pool
def action():
    with Pool(2) as pool:
        print(*pool.map(time.sleep, [1000, 1000]))
sys.exit(guarded(action))
"""


@pytest.fixture
def sleeping():
    """A process with two workers that sleep, in a session of its own, and those workers beside Python's own helper."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS],
        env=os.environ | {"PYTHONPATH": str(PKG)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: len(children(process.pid)) == 3)
    yield process, children(process.pid)
    process.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize(
    "send, number, status", [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)], ids=["ctrl-c", "kill"]
)
@pytest.mark.parametrize("later", [0.0, 1.0], ids=["starting", "started"])
def test_an_interrupted_process_says_one_line_and_takes_its_workers_along(sleeping, send, number, status, later):
    process, workers = sleeping
    time.sleep(later)
    send(process.pid, number)
    assert process.communicate(timeout=PATIENCE)[1] == f"{KEPT}\n"
    assert process.returncode == status
    until(lambda: not any(map(is_there, workers)))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_the_workers_of_a_killed_process_go(sleeping):
    process, workers = sleeping
    process.kill()
    process.wait()
    until(lambda: not any(map(is_there, workers)))


def test_a_pool_works_as_its_parent_class_does():
    with Pool(1) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
