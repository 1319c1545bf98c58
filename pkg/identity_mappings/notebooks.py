"""Executing the rows' notebooks with papermill: one executed copy a row and tier, in the book's `runs` folder."""

import logging
from pathlib import Path

from . import paper, records
from .protocols import TIERS, Reduction

ROOT = Path(__file__).resolve().parents[2]
SOURCES, EXECUTED = ROOT / "notebooks", ROOT / "book" / "runs"


def executed_path(table, row_id, tier, reduction=Reduction()):
    """Where a row's executed notebook lies: book/runs/<tier>/table-<t>/<row>[-at-<reduction>].ipynb."""
    name = f"{row_id}-at-{reduction.name}" if reduction.name else row_id
    return EXECUTED / tier / f"table-{table}" / f"{name}.ipynb"


def execute(table, row_ids, tier, seeds, reduction=Reduction(), results=None):
    """Execute the table's notebook for each row that has records and whose executed copy is older than they are."""
    stale = [
        row
        for row in paper.rows(table, row_ids)
        if _newest(row, tier, reduction, results) > _made(row, tier, reduction)
    ]
    if not stale:
        return
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    for row in stale:
        target = executed_path(table, row.id, tier, reduction)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.stem}.partial.ipynb")
        parameters = {"table": table, "row": row.id, "tier": tier, "seeds": seeds, "reduction": reduction.name}
        print(f"executing the notebook of Table {table}, {row.id}, {tier} tier", flush=True)
        papermill.execute_notebook(
            SOURCES / f"table_{table}.ipynb",
            partial,
            parameters,
            kernel_name="python3",
            cwd=SOURCES,
            progress_bar=False,
        )
        partial.replace(target)


def execute_all(results=None):
    """`execute` for every row, tier and reduction that has records, and remove the copies of those that have none."""
    kept = set()
    for row in paper.rows():
        if not (SOURCES / f"table_{row.table}.ipynb").exists():
            continue
        for tier in TIERS:
            for reduction in (Reduction(), *records.reductions(row, tier, results)):
                found = records.runs_of(row, tier, reduction, results)
                if found:
                    execute(row.table, [row.id], tier, len({run.seed for run in found}), reduction, results)
                    kept.add(executed_path(row.table, row.id, tier, reduction))
    for path in EXECUTED.rglob("*.ipynb"):
        if path not in kept:
            path.unlink()


def _newest(row, tier, reduction, results):
    """When the newest thing that a row's notebook shows was written; 0 where it has no records."""
    made = [run.record_path(results).stat().st_mtime for run in records.runs_of(row, tier, reduction, results)]
    return max([*made, (SOURCES / f"table_{row.table}.ipynb").stat().st_mtime]) if made else 0.0


def _made(row, tier, reduction):
    path = executed_path(row.table, row.id, tier, reduction)
    return path.stat().st_mtime if path.exists() else 0.0
