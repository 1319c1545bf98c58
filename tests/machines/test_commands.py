"""The commands for many machines, as both command lines call them."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import small_run

from identity_mappings import commands
from identity_mappings.__main__ import main
from identity_mappings.errors import UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.machines import contributions
from identity_mappings.nets.counts import Counts
from identity_mappings.results import records
from identity_mappings.training import budget

COMMITTED = Path(__file__).resolve().parents[2] / "results"
RECORD = json.loads((COMMITTED / "quick/table-1/original@depth-20/seed-0.json").read_text())


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty results folder, the current one."""
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def lay(results):
    path = results / "quick/table-1/original@depth-20/seed-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(RECORD))
    return path


def test_what_is_contributed_is_received(results, monkeypatch, capsys):
    lay(results)
    assert main(["contribute", "--name", "Ada Lovelace"]) == 0
    assert "contribution.jsonl: 1 run, contributed by Ada Lovelace" in capsys.readouterr().out
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(results.parent / "ours"))
    assert main(["receive", "contribution.jsonl", "--dry-run"]) == 0
    assert "1 would be added, 0 known already, 0 refused" in capsys.readouterr().out
    assert not (results.parent / "ours").exists()
    assert main(["receive", "contribution.jsonl"]) == main(["receive", "contribution.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "1 added, 0 known already, 0 refused" in out and "0 added, 1 known already, 0 refused" in out
    assert main(["contribute"]) == 2  # the file is there already
    assert "choose another file with --out" in capsys.readouterr().err


def test_a_refused_record_is_a_line_and_status_2(results, capsys):
    path = lay(results)
    path.write_text(json.dumps(RECORD | {"commit": RECORD["commit"] + "+changes"}))
    assert main(["contribute"]) == 2
    assert re.search("seed 0: refused: made by a library with changes of its own", capsys.readouterr().err)
    assert main(["receive", str(path)]) == 2
    told = capsys.readouterr()
    assert "0 added, 0 known already, 1 refused" in told.out and "Traceback" not in told.err
    assert main(["receive"]) == main(["receive", "no-such-file"]) == 2
    assert main(["contribute", "--tier", "gold"]) == main(["contribute", "--table", "2"]) == 2


def test_what_git_knows_already_is_not_contributed_again(results, monkeypatch, capsys):
    """Of a checkout of its own, whatever has been run in this one."""
    first = lay(results)
    for words in ["init", "-q"], ["add", "results"]:
        subprocess.run(["git", "-C", results.parent, *words], check=True)
    monkeypatch.setattr(contributions, "_root", lambda: results.parent)
    assert main(["contribute", "--table", "1"]) == 2
    assert "there is no finished run to contribute" in capsys.readouterr().err
    first.with_name("seed-1.json").write_text(json.dumps(RECORD | {"seed": 1}))
    (row,) = paper.rows(1, ["original"])
    found = records.runs_of(row, "quick", Reduction(depth=20))
    assert [run.seed for run in found] == [0, 1] and [run.seed for run in contributions.own(found)] == [1]


def test_a_budget_that_is_spent_ends_with_status_0_and_a_line(results, capsys, monkeypatch):
    cut = ["--table", "1", "--row", "original", "--tier", "smoke", "--depth", "8", "--iterations", "20"]
    assert main(["train", *cut, "--device", "cpu", "--budget", "1s"]) == 0
    assert (
        "the budget is spent: 0 of 1 runs have ended, 1 are left: the same command goes on" in capsys.readouterr().out
    )
    assert main(["train", *cut, "--budget", "soon"]) == 2
    assert "as 25m, 1h30m or 90s; got 'soon'" in capsys.readouterr().err
    assert main(["train", *cut, "--shared"]) == 2
    assert "it needs --cluster" in capsys.readouterr().err


def test_what_is_left_is_told_with_the_time_that_it_takes(results, capsys):
    runs = [small_run(1, "original", iterations=500, seed=seed) for seed in range(3)]

    def train(planned, report, until, **how):
        event = {"kind": "step", "run": planned[0].name, "iterations": 500}
        report(event | {"kind": "start", "iteration": 0, "seconds": 0.0})
        report(event | {"iteration": 250, "seconds": 60.0})
        return dict.fromkeys(planned) | {planned[2]: {}}

    commands.train_runs(runs, "cpu", "fp32", budget="25m", train=train)
    line = (
        "the budget is spent: 1 of 3 runs have ended, 2 are left, about 3 min 0 s of training on this machine: the same"
    )
    assert line in capsys.readouterr().out
    commands.train_runs(runs[2:], "cpu", "fp32", train=lambda planned, *_, **how: {planned[0]: {}})
    assert "budget" not in capsys.readouterr().out


def test_next_is_what_would_tell_most(results, capsys, monkeypatch):
    counted = Counts(0, 0, 1)  # a count takes a while
    monkeypatch.setattr("identity_mappings.experiments.runs.count", lambda *_: counted)
    assert main(["status", "--next", "2", "--tier", "smoke"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.match(r"1\. Table \d, \S+: not run, n = 0; \d more runs?, cost unknown", first)
    assert rest[0].startswith("   python -m identity_mappings train --table") and "--seed 0" in rest[0]
    assert sum(line[0].isdigit() for line in (first, *rest)) == 2
    assert main(["status", "--next", "0"]) == main(["status", "--next", "3", "--tier", "gold"]) == 2


def test_a_device_of_a_cluster():
    assert commands._of_cluster("cuda", "auto") == "cuda" and commands._of_cluster("cpu", "auto") == "cpu"
    assert commands._of_cluster("cuda", "cpu") == "cpu"
    with pytest.raises(UsageError, match="needs a cluster with GPUs"):
        commands._of_cluster("cpu", "cuda")
    with pytest.raises(UsageError, match="device must be one of"):
        commands._of_cluster("cpu", "tpu")


def test_seconds_of_a_budget_are_those_of_the_command(monkeypatch):
    given = {}
    monkeypatch.setattr(commands.time, "monotonic", lambda: 100.0)
    commands.train_runs([], "cpu", "fp32", budget="1h", train=lambda *_, **how: given.update(how) or {})
    assert given["until"] == 100.0 + budget.seconds("1h")
