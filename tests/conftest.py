"""What the tests share: one thread, short runs on digits or toy images, and the outcome of a run that never was."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from identity_mappings import NetworkSpec
from identity_mappings.data import Dataset
from identity_mappings.data.batches import Images
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import CIFAR, Recipe, Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.results import records
from identity_mappings.training import state as training_state

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


def known(name="*", folder="results"):
    """The records of that name in a folder of this checkout that git knows; without git, all that are there.

    What the reader of the README has run beside them changes no test.
    """
    if not (ROOT / ".git").exists():
        return sorted((ROOT / folder).rglob(f"{name}.json"))
    git = ["git", "-C", ROOT, "ls-files", "-z", "--", f"{folder}/*/{name}.json"]
    names = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    return sorted(ROOT / each for each in names)


def small_run(table, id, depth=8, iterations=20, seed=0, cls=Run):
    """A smoke run that takes about a second."""
    (row,) = paper.rows(table, [id])
    return cls(*place(row, next(iter(row.networks))), "smoke", seed, Reduction(depth, iterations))


@pytest.fixture
def run():
    return small_run(1, "original")


@pytest.fixture
def outcome():
    """Makes what training hands to `records.write`, with the test error that is asked for."""

    def make(error, status="finished"):
        curve = {"iteration": [20], "rate": [0.1], "train_loss": [1.5], "train_error": [40.0], "test_error": [error]}
        return {
            "status": status,
            "test_error": error,
            "diverged_at": None if status == "finished" else 20,
            "precision": "fp32",
            "device": "none",
            "threads": 1,
            "wall_seconds": 1.0,
            "device_seconds": 1.0,
            "versions": {},
            "data_checksum": "none",
            "curve": curve,
        }

    return make


@pytest.fixture
def put(outcome, tmp_path):
    """Writes a record a seed for a row's recipe: errors in percent, None for a run that diverged. Returns the folder.

    losses: the training loss at a 20th, a tenth, a half and the end of the run, to which each seed adds a hundredth.
    """

    def write(table, id, errors, tier="paper", reduction=Reduction(), losses=None, variant=None):
        (row,) = paper.rows(table, [id])
        for seed, error in enumerate(errors):
            variant = next(iter(row.networks)) if variant is None else variant
            run = Run(*place(row, variant), tier, seed, reduction)
            made = outcome(error, "finished" if error is not None else "diverged")
            if losses:
                iterations = run.recipe.protocol.iterations
                whole = {column: values * len(losses) for column, values in made["curve"].items()}
                made["curve"] = whole | {
                    "iteration": [iterations // 20, iterations // 10, iterations // 2, iterations],
                    "train_loss": [loss + seed / 100 for loss in losses],
                    **{name: made["curve"][name] * 4 for name in ("rate", "train_error", "test_error")},
                }
            records.write(run, made, tmp_path)
        return tmp_path

    return write


def toy(count=256, side=32):
    """Random coloured images, brighter from image to image and from channel to channel."""
    random = np.random.default_rng(0)
    x = random.integers(0, 200, (count, side, side, 3)) + np.linspace(0, 50, count)[:, None, None, None]
    x, y = x.astype(np.uint8), np.arange(count) % 10
    return Dataset("toy", x, y, x[:50], y[:50], classes=10)


@pytest.fixture
def begun(monkeypatch):
    """Makes the state of a run of the CIFAR protocol, or a change of it, on toy images of 8x8."""

    def make(network=None, **changes):
        images = (*Images.pair(toy(side=8), CIFAR.normalisation, "cpu"), "toy")
        monkeypatch.setattr(training_state, "_images", lambda *_: images)
        network = network or NetworkSpec(8, widths=(2, 3, 4))
        return training_state.State(Recipe("toy", network, replace(CIFAR, **changes)), 0, "cpu", "fp32")

    return make


def at(state, iteration):
    """Have the state take that iteration next."""
    state.iteration = iteration
    state.on_device.counter.fill_(iteration)


def rate_used(state, iteration):
    """The rate that the optimiser was given in the step of that iteration."""
    used, sgd = [], state.on_device.sgd
    sgd.step = lambda gradients, rate, scale: used.append(rate.item()) or type(sgd).step(sgd, gradients, rate, scale)
    at(state, iteration)
    state.step()
    return used[0]


def draws(batches, iteration):
    """(4, batch): image, crop's row and column, and flip of each draw of that iteration."""
    batches.bring(iteration)
    return batches.draws(torch.tensor([iteration]))


def batch(batches, iteration):
    """Images and labels of that iteration."""
    batches.bring(iteration)
    return batches.at(torch.tensor([iteration]))


def rate_of(protocol, iteration, dtype=torch.float64):
    """The protocol's rate as the optimiser takes it."""
    return torch.tensor([protocol.rate(iteration)], dtype=dtype)
