"""Executing the rows' notebooks with papermill: one executed copy a row and tier, in the book's `runs` folder."""

import hashlib
import json
import logging
import re
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


# --- copies to take away


def filled_name(row, tier, reduction=Reduction()):
    """How a row's notebook for a tier is called: table-1/exclusive-gating-6-pocket.ipynb."""
    name = "-".join(filter(None, (row.id, tier, reduction.name)))
    return f"table-{row.table}/{name}.ipynb"


def filled(row, tier, reduction=Reduction(), seeds=1):
    """A table's notebook with its parameters set to a row and a tier, not executed: what is published."""
    import nbformat

    notebook = nbformat.read(SOURCES / f"table_{row.table}.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    values = {"table": row.table, "row": row.id, "tier": tier, "seeds": seeds, "reduction": reduction.name}
    for key, value in values.items():
        cell.source, found = re.subn(rf"^{key} = .*$", f"{key} = {value!r}", cell.source, flags=re.M)
        assert found == 1, f"{SOURCES}/table_{row.table}.ipynb must set {key} once in its parameters; found {found}"
    return notebook


INSTALL = """\
# Colab keeps its own torch, Jupyter and most else; elsewhere, install the library first or run this in its repository.
import subprocess
import sys

if "google.colab" in sys.modules:
    source = "identity-mappings[notebook] @ git+{address}@{commit}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)"""


def with_install(notebook, address, commit):
    """A notebook with a first cell that installs the library of that commit in Colab; as it is without an address."""
    import nbformat

    if address and commit:
        cell = nbformat.v4.new_code_cell(INSTALL.format(address=address, commit=commit))
        cell.id = "install"  # the same in every build
        notebook.cells.insert(1, cell)
    return notebook
