"""A small run of Table 5 by two processes that torchrun starts, for tests and trials that kill some of them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from looking import children

from identity_mappings.data import drawn
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import plan
from identity_mappings.training import checkpoint, distributed

PROGRAM = Path(__file__).resolve().parent / "training" / "by_torchrun.py"
ITERATIONS = 24
LONGEST = 600  # seconds, on a machine with much else to do


def small(iterations=ITERATIONS, id="200-pre-activation-320"):
    """A run of Table 5 in the smoke tier, of 50 layers."""
    (run,) = plan(paper.rows(5, [id]), "smoke", 1, Reduction(depth=50, iterations=iterations, width=1))
    return run


def draw_few(root):
    """Draw a few pictures in a data folder: 4 of each class for training, 47 in all for tests."""
    for part, count in (("train", 4), ("val", 5)):
        for number, name in enumerate(drawn.CLASSES):
            place = root / f"drawn-{drawn.VERSION}" / part / name
            place.mkdir(parents=True)
            for k in range(count - (part == "val" and number < 3)):
                random = np.random.RandomState([len(part), number, k])
                drawn.draw(number, random, (50, 90)).save(place / f"{k}.JPEG")


def torchrun(processes, *arguments, restarts=0):
    """The command that has torchrun start so many processes of `by_torchrun.py`, the program for tests."""
    command = distributed.command(processes, [])[: -len(["-m", "identity_mappings", "train"])]
    command[command.index("--max-restarts") + 1] = str(restarts)
    return [*command, *map(str, [PROGRAM, *arguments])]


def environment(**more):
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"} | more


def train(run, results, look=None, what="train", **variables):
    """(torchrun's status, what was said), the run trained; look(pids of the workers) is called again and again.

    what: the program's part. variables: of the environment. The status is None, and all are killed, where they have not
    ended within LONGEST.
    """
    command = torchrun(2, what, *distributed.arguments([run], "cpu", "fp32"), restarts=5 if look else 0)
    around = environment(IDENTITY_MAPPINGS_RESULTS=str(results), **variables)
    with tempfile.TemporaryFile("w+") as said:  # a pipe that nobody reads would fill
        agent = subprocess.Popen(command, env=around, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + LONGEST
        while agent.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            if look:
                look(sorted(children(agent.pid)))
        if (status := agent.poll()) is None:
            for pid in (*children(agent.pid), agent.pid):  # torchrun's workers are sessions of their own
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            agent.wait()
        said.seek(0)
        return status, said.read()


class Kill:
    """Kill -9 of one or of both workers, once: what `train` calls to look at them.

    It comes a random part of a second after a random iteration's checkpoint: in the middle of the next iteration, or of
    the one after. killed: the ranks whose workers were killed, empty before. after: the iteration.
    """

    def __init__(self, run, results, victims, random):
        """victims: 1 or 2. random: numpy's `RandomState`."""
        self.run, self.results, self.killed = run, results, []
        self.after, self.delay = random.randint(1, run.recipe.protocol.iterations - 3), random.uniform(0, 0.3)
        self.ranks = sorted(random.permutation(2)[:victims])

    def __call__(self, workers):
        if self.killed or len(workers) != 2 or not self.run.checkpoint_path(self.results).exists():
            return
        saved = checkpoint.read(self.run, "fp32", "cpu", self.results)
        if saved["state"]["iteration"] >= self.after:
            time.sleep(self.delay)
            for rank in self.ranks:
                with suppress(ProcessLookupError):
                    os.kill(workers[rank], signal.SIGKILL)
                    self.killed.append(rank)
