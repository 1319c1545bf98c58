"""Executing the rows' notebooks with papermill: one executed copy a row and tier, in the book's `runs` folder."""

import hashlib
import json
import logging
import re
import tomllib
from pathlib import Path

from ..experiments import paper
from ..experiments.protocols import Reduction
from ..experiments.runs import plan
from ..hardware import cores
from ..results import records
from ..workers import Pool

ROOT = Path(__file__).resolve().parents[3]
SOURCES, EXECUTED = ROOT / "notebooks", ROOT / "book" / "runs"
NOTE = "identity_mappings_inputs"  # the metadata of an executed copy that says what it was made from


def executed_path(table, row_id, tier, reduction=Reduction()):
    """Where a row's executed notebook lies: book/runs/<tier>/table-<t>/<row>[-at-<reduction>].ipynb."""
    name = f"{row_id}-at-{reduction.name}" if reduction.name else row_id
    return EXECUTED / tier / f"table-{table}" / f"{name}.ipynb"


def execute(table, row_ids, tier, seeds, reduction=Reduction(), results=None):
    """Execute the table's notebook for each row whose runs of `seeds` all have records, if its copy is of others."""
    _execute_together(_waiting(table, row_ids, tier, seeds, reduction, results))


def _waiting(table, row_ids, tier, seeds, reduction, results):
    """(source, target, parameters, inputs) of each execution that is due."""
    for row in paper.rows(table, row_ids):
        runs = plan([row], tier, seeds, reduction)
        if any(records.peek(run, results) is None for run in runs):
            continue  # the notebook would train what is missing
        source, target = SOURCES / f"table_{table}.ipynb", executed_path(table, row.id, tier, reduction)
        parameters = {"table": table, "row": row.id, "tier": tier, "seeds": seeds, "reduction": reduction.name}
        inputs = _inputs(source, parameters, _shown(row, tier, reduction, results))
        if _noted(target) != inputs:
            yield source, target, parameters, inputs


def _execute_together(waiting):
    """Execute notebooks side by side, one a core: most of their time goes into starting kernels."""
    if waiting := list(waiting):
        with Pool(min(cores(), len(waiting))) as pool:
            for done in pool.map(_execute, *zip(*waiting, strict=True)):
                print(done, flush=True)


def _execute(source, target, parameters, inputs):
    import nbformat
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.stem}.partial.ipynb")
    quiet = ["--log-level=CRITICAL"]  # else a kernel tells of TCP, to this machine alone, and of its own end
    executed = papermill.execute_notebook(
        source, partial, parameters, kernel_name="python3", cwd=SOURCES, progress_bar=False, extra_arguments=quiet
    )
    executed.metadata[NOTE] = inputs
    nbformat.write(executed, partial)
    partial.replace(target)
    cut = f", {parameters['reduction']}" if parameters["reduction"] else ""
    return "executed the notebook of Table {table}, {row}, {tier} tier".format(**parameters) + cut


def execute_all(results=None):
    """`execute` for every row of the book's tables that has records, and remove the copies of rows without."""
    kept, waiting = set(), []
    for row in (row for table in paper.TABLES for row in paper.rows(table)):
        for tier, reduction in records.settings([row], results):
            seeds = sorted({run.seed for run in records.runs_of(row, tier, reduction, results)})
            waiting += _waiting(row.table, [row.id], tier, seeds, reduction, results)
            kept.add(executed_path(row.table, row.id, tier, reduction))
    _execute_together(waiting)
    for path in EXECUTED.rglob("*.ipynb"):
        if path not in kept:
            path.unlink()


def _shown(row, tier, reduction, results):
    """The records that a row's notebook shows: its own and its baseline's."""
    baseline = paper.rows(row.table, [row.baseline]) if row.baseline else []
    runs = [run for each in (row, *baseline) for run in records.runs_of(each, tier, reduction, results)]
    return [run.record_path(results) for run in runs]


def _inputs(source, parameters, shown):
    """A hash of what a copy is made from: notebook, parameters, records, library; of contents, whatever their times."""
    parts = [json.dumps(parameters, sort_keys=True).encode()]
    parts += [path.read_bytes() for path in (source, *sorted(shown), *sorted(Path(__file__).parents[1].rglob("*.py")))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _noted(target):
    """The hash that an executed copy was made with; None where there is no copy that can be read."""
    try:
        return json.loads(target.read_text())["metadata"].get(NOTE)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):  # cut short, say: it is made anew
        return None


def with_address(text):
    """A notebook's .py with the repository's address as pyproject.toml has it."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    return re.sub(r'^REPOSITORY = ".*"$', f'REPOSITORY = "{address}"', text, flags=re.M)
