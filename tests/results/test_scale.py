"""What thousands of records cost the commands that read them all: minutes to lay them, and so left to -m slow."""

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.runs import Run, place
from identity_mappings.results import records, soundness

COMMITTED = Path(__file__).resolve().parents[2] / "results"
LONG = json.loads((COMMITTED / "quick/table-1/original@depth-20/seed-0.json").read_text())  # of seventeen epochs
MANY, SECONDS = 5_000, 5.0  # records; of one core, the start of Python and torch's import included


def laid(rows, folder):
    """MANY records of the rows' recipes in the pocket tier, each of another run."""
    homes = list(dict.fromkeys(place(row, variant) for row in rows for variant in row.networks))
    for number in range(MANY):
        row, variant = homes[number % len(homes)]
        run = Run(row, variant, "pocket", number // len(homes))
        named = {"table": row.table, "row": row.id, "variant": variant, "tier": run.tier, "reduction": ""}
        of = {"seed": run.seed, "recipe_hash": records.recipe_hash(run.recipe), "recipe": run.recipe.to_json()}
        record = {key: value for key, value in (LONG | named | of).items() if key != "digest"}
        records.store(run, record | {"digest": soundness.digest(record)}, folder)


def spent(command, results):
    """(what a command prints, the seconds of a core that it takes): the least of three, as others work here too."""
    environment = os.environ | {"IDENTITY_MAPPINGS_RESULTS": str(results)}
    line, taken = [sys.executable, "-m", "identity_mappings", *command], []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return said, min(taken)


@pytest.mark.slow
@pytest.mark.parametrize("ids", [["110-full-pre-activation"], []], ids=["in one row", "over all rows"])
def test_status_and_table_over_thousands_of_records_take_seconds(tmp_path, monkeypatch, ids):
    monkeypatch.setattr(records.os, "fsync", lambda file: None)
    laid(paper.rows(2, ids), tmp_path)
    for command in ["status"], ["table", "--table", "2", "--tier", "pocket"]:
        said, seconds = spent(command, tmp_path)
        assert str(MANY // len(paper.rows(2, ids))) in said
        assert seconds < SECONDS, command


def test_a_record_is_read_in_as_much_memory_as_it_has_bytes(run, outcome, tmp_path):
    """Not in the most that a record may have: for 5,000 of them that was a second."""
    records.write(run, outcome(12.5), tmp_path)
    path = run.record_path(tmp_path)
    tracemalloc.start()
    try:
        assert records._content(path, os.stat(path)) == path.read_bytes()
        assert tracemalloc.get_traced_memory()[1] < 100 * path.stat().st_size
    finally:
        tracemalloc.stop()
