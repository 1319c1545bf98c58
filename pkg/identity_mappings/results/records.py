"""Run records: one JSON file per run, the only source of every reproduced number."""

import hashlib
import json
import os
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from ..errors import UsageError
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import Run, place

FORMAT = 1


def recipe_hash(recipe):
    """The first 12 hex digits of the SHA-256 of the recipe's JSON: what ties a record or checkpoint to its recipe."""
    text = json.dumps(recipe.to_json(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@lru_cache
def commit():
    """The commit that the library is of, with "+changes" where a checkout's tracked files differ from it.

    In a checkout git knows it, where pip installed from a repository pip does; None where neither does.
    """
    library = Path(__file__).resolve().parents[1]
    # git alone would answer for any project in whose folder a virtual environment lies
    if not (library.parents[1] / ".git").exists():
        # a copy without its .git, on a rented machine say, is told by the variable
        return os.environ.get("IDENTITY_MAPPINGS_COMMIT") or _installed_commit()
    git = ["git", "-C", str(library)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno", "--", library], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed.stdout.strip() else "")


def _installed_commit():
    try:
        source = metadata.distribution("identity-mappings").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    return json.loads(source or "{}").get("vcs_info", {}).get("commit_id")


def write_atomically(path, data):
    """Write bytes to a temporary name beside `path`, force them to disk, and rename: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write(run, outcome, results=None):
    """Write the record of a run that has ended; `outcome` is what training gives. Returns the record."""
    return store(run, completed(run, outcome), results)


def completed(run, outcome):
    """The record of a run that has ended, not yet written."""
    return {
        "format": FORMAT,
        "table": run.row.table,
        "row": run.row.id,
        "variant": run.variant,
        "tier": run.tier,
        "reduction": run.reduction.name,
        "seed": run.seed,
        "recipe_hash": recipe_hash(run.recipe),
        **outcome,
        "commit": commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": run.recipe.to_json(),
    }


def store(run, record, results=None):
    """Write a completed record to the run's place; returns it."""
    return write_json(run.record_path(results), record)


def write_json(path, record):
    """Write a record to a file, a line a key; returns it."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_atomically(path, f"{{\n{lines}\n}}\n".encode())
    return record


def read(run, results=None):
    """The run's record, or None where it has none. Raises UsageError for one that is damaged or of another recipe."""
    path = run.record_path(results)
    try:
        record = json.loads(path.read_text())
        found, seed = record["recipe_hash"], record["seed"]
        _ = numbers(record)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} must be a run record in JSON; it cannot be read ({error!r}): "
            "move it away, and the run is made again"
        ) from error
    if found != recipe_hash(run.recipe):
        raise UsageError(
            f"{path} is of another recipe: expected {recipe_hash(run.recipe)}, got {found}: "
            f"move it away to train this one; nothing was overwritten"
        )
    if seed != run.seed:
        raise UsageError(f"{path} is the record of seed {seed}; expected seed {run.seed}: move it away")
    return record


def peek(run, results=None):
    """The run's record, or None where it has none that can be used."""
    try:
        return read(run, results)
    except UsageError:
        return None


NUMBERS = ("recipe_hash", "seed", "status", "test_error", "diverged_at", "curve", "precision", "data_checksum")


def numbers(record):
    """The part of a record that the same run gives again: all but times, places and versions."""
    return {key: record[key] for key in NUMBERS} | {key: record[key] for key in ("crops",) if key in record}


def runs_of(row, tier, reduction=Reduction(), results=None):
    """The runs of a row's recipes that have a record, in order of seed."""
    found = []
    for variant in row.networks:
        seeds = Run(*place(row, variant), tier, 0, reduction).seeds(results, (".json",))
        found += [Run(*place(row, variant), tier, seed, reduction) for seed in seeds]
    return found


def reductions(row, tier, results=None):
    """The reductions under which a row has records in a tier, the tier's own recipe (no reduction) left out."""
    table_row, variant = place(row, next(iter(row.networks)))
    folder = Run(table_row, variant, tier, 0).folder(results)
    folder = folder.parent if variant else folder
    names = sorted(path.name.partition("@")[2] for path in folder.parent.glob(f"{table_row.id}@*"))
    return [Reduction.parse(name) for name in names if name and Reduction.names(name)]


def settings(rows, results=None, found=runs_of):
    """[(tier, reduction)] in which any of the rows has a run: small tiers first, a tier's recipe before its cuts.

    found(row, tier, reduction, results): whether the row has one, or what else is asked for.
    """
    return [
        (tier, reduction)
        for tier in TIERS
        for reduction in (Reduction(), *dict.fromkeys(r for row in rows for r in reductions(row, tier, results)))
        if any(found(row, tier, reduction, results) for row in rows)
    ]
