"""What the tests share: one thread, a short run of a paper's row on digits, and the outcome of a run that never was."""

import pytest
import torch

from identity_mappings import paper
from identity_mappings.protocols import Reduction
from identity_mappings.runs import Run, place

torch.set_num_threads(1)


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
            "data_checksum": "none",
            "curve": curve,
        }

    return make
