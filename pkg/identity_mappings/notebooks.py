"""Executing the rows' notebooks with papermill: one executed copy a row and tier, in the book's `runs` folder."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import paper, records
from .protocols import Reduction
from .runs import plan
from .training.many import cores

ROOT = Path(__file__).resolve().parents[2]
SOURCES, EXECUTED = ROOT / "notebooks", ROOT / "book" / "runs"


def executed_path(table, row_id, tier, reduction=Reduction()):
    """Where a row's executed notebook lies: book/runs/<tier>/table-<t>/<row>[-at-<reduction>].ipynb."""
    name = f"{row_id}-at-{reduction.name}" if reduction.name else row_id
    return EXECUTED / tier / f"table-{table}" / f"{name}.ipynb"


def execute(table, row_ids, tier, seeds, reduction=Reduction(), results=None):
    """Execute the table's notebook for each row whose runs of `seeds` all have records newer than its executed copy."""
    _execute_together(_waiting(table, row_ids, tier, seeds, reduction, results))


def _waiting(table, row_ids, tier, seeds, reduction, results):
    """(source, target, parameters) of each execution that is due."""
    for row in paper.rows(table, row_ids):
        runs = plan([row], tier, seeds, reduction)
        if any(records.peek(run, results) is None for run in runs):
            continue  # the notebook would train what is missing
        target = executed_path(table, row.id, tier, reduction)
        if not target.exists() or target.stat().st_mtime < _newest(row, tier, reduction, results):
            parameters = {"table": table, "row": row.id, "tier": tier, "seeds": seeds, "reduction": reduction.name}
            yield SOURCES / f"table_{table}.ipynb", target, parameters


def _execute_together(waiting):
    """Execute notebooks side by side, one a core: most of their time goes into starting kernels."""
    if waiting := list(waiting):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(cores(), len(waiting)), mp_context=context) as pool:
            for done in pool.map(_execute, *zip(*waiting, strict=True)):
                print(done, flush=True)


def _execute(source, target, parameters):
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.stem}.partial.ipynb")
    quiet = ["--log-level=CRITICAL"]  # else a kernel tells of TCP, to this machine alone, and of its own end
    papermill.execute_notebook(
        source, partial, parameters, kernel_name="python3", cwd=SOURCES, progress_bar=False, extra_arguments=quiet
    )
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


def _newest(row, tier, reduction, results):
    """When the newest thing that a row's notebook shows was written: its records, its baseline's, the notebook."""
    baseline = paper.rows(row.table, [row.baseline]) if row.baseline else []
    shown = [run for each in (row, *baseline) for run in records.runs_of(each, tier, reduction, results)]
    paths = [SOURCES / f"table_{row.table}.ipynb", *(run.record_path(results) for run in shown)]
    return max(path.stat().st_mtime for path in paths)
