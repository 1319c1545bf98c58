"""How long what is left takes: by which records it is estimated, and what is said where none help."""

import re

import pytest
import torch

from identity_mappings import commands
from identity_mappings.data import SIZES
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import plan
from identity_mappings.nets.counts import count
from identity_mappings.results import costs, records
from identity_mappings.training.loop import timed as timed_iteration

CUT = Reduction(depth=8, iterations=100)


@pytest.fixture
def timed(outcome, tmp_path):
    """Writes the record of a row's run that took so many device seconds."""

    def write(table, id, seconds, seed=0, tier="pocket", cut=CUT, device="a CPU"):
        (run,) = plan(paper.rows(table, [id]), tier, [seed], cut)
        made = outcome(9.0) | {"device": device, "device_seconds": seconds}
        records.write(run, made, tmp_path)
        return tmp_path

    return write


def work(run):
    recipe = run.recipe
    images = recipe.protocol.iterations * recipe.protocol.batch
    return images * count(recipe.network, SIZES[recipe.dataset]).macs


def test_an_estimate_takes_the_records_most_like_the_run(timed):
    folder = timed(1, "original", 100.0)
    (gated,) = plan(paper.rows(1, ["exclusive-gating-6"]), "pocket", [0], CUT)
    (plain,) = plan(paper.rows(1, ["original"]), "pocket", [1], CUT)
    longer = plan(paper.rows(1, ["original"]), "quick", [0], CUT)[0]
    known = costs.costs(folder)
    assert costs.estimate(plain, "a CPU", "fp32", known) == (pytest.approx(100.0), costs.SOURCES[0])
    share = work(gated) / work(plain)
    assert share > 1  # a gate costs something
    assert costs.estimate(gated, "a CPU", "fp32", known) == (pytest.approx(100.0 * share), costs.SOURCES[1])
    share = work(longer) / work(plain)
    assert share > 10  # four times the pixels, four times the channels' products
    assert costs.estimate(longer, "a CPU", "fp32", known) == (pytest.approx(100.0 * share), costs.SOURCES[2])
    assert costs.estimate(plain, "a GPU", "fp32", known) == (None, None)
    assert costs.estimate(plain, "a CPU", "bf16", known) == (None, None)


def test_what_is_left(timed):
    folder = timed(1, "original", 7200.0)
    runs = plan(paper.rows(1, ["original", "scaling-0.5-0.5"]), "pocket", 2, CUT)
    said = costs.left(runs, "a CPU", "fp32", folder)
    assert said == (
        "left to train: 3 of 4 runs, about 6.0 hours of a CPU in fp32, a CPU's cores added up; estimated 1 by finished "
        "runs of the same row, 2 by finished runs of the same tier, in proportion to multiply-adds; a stopped run "
        "counts as a whole one"
    )
    unknown = costs.left(runs, "a GPU", "fp32", folder)
    assert unknown.startswith("left to train: 3 of 4 runs; how long they take is not known")
    now = costs.left(runs, "a GPU", "fp32", folder, timed=lambda run: 36.0)  # a hundred iterations: an hour
    assert now.startswith("left to train: 3 of 4 runs, about 3.0 hours of a GPU in fp32")
    assert "estimated 3 by a few iterations of scaling-0.5-0.5 timed just now, evaluations left out" in now
    assert costs.left(runs[:1], "a CPU", "fp32", folder) == "nothing is left to train"


def test_an_iteration_is_timed_without_a_trace(run, tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    random = torch.get_rng_state()
    assert 0 < timed_iteration(run, seconds=0.05) < 10
    assert not any(tmp_path.rglob("*")) and torch.equal(torch.get_rng_state(), random)


def test_status_counts_the_runs_of_each_row_and_tier(timed, outcome, put, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    for seed in range(3):
        timed(1, "original", 1.0, seed, cut=Reduction())
    timed(1, "original", 1.0, 0)
    put(1, "exclusive-gating-0-to-5", [89.0, None], "pocket", variant="bias-0")
    commands.status(1)
    printed = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    lines = {line[1]: line[2:] for line in printed if line[0] == "1"}
    assert lines["original"] == ["not run", "n = 3", "not run", "not run"]
    assert lines["exclusive-gating-0-to-5/bias-0"] == ["not run", "n = 2, 1 diverged", "not run", "not run"]
    assert lines["exclusive-gating-0-to-5/bias-1"] == ["not run"] * 4
    assert lines[f"original at {CUT}"] == ["n = 1"]
