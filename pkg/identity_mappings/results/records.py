"""Run records: one JSON file per run, the only source of every reproduced number."""

import json
import os
import pickle
import stat
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

from ..errors import UsageError
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import Run, place
from . import soundness


@cache
def recipe_hash(recipe):
    """The first 12 hex digits of the SHA-256 of the recipe's JSON: what ties a record or checkpoint to its recipe."""
    return soundness.recipe_hash(recipe.to_json())


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
    """Write bytes to a temporary name beside `path`, force them to disk, and rename: never half a file.

    What fails leaves `path` as it was; the OSError names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        if error.filename is None:  # a write or an fsync, which know no name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def partial_of(path):
    """The temporary name under which `path` is written."""
    return path.with_name(path.name + ".partial")


def write(run, outcome, results=None):
    """Write the record of a run that has ended; `outcome` is what training gives. Returns the record."""
    return store(run, completed(run, outcome), results)


def completed(run, outcome):
    """The record of a run that has ended, not yet written."""
    record = {
        "format": soundness.FORMAT,
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
    return record | {"digest": soundness.digest(record)}


def store(run, record, results=None):
    """Write a completed record to the run's place, one line per key; returns it."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_atomically(run.record_path(results), f"{{\n{lines}\n}}\n".encode())
    return record


def read(run, results=None):
    """The run's record, or None where it has none. Raises UsageError for one that is damaged or of another recipe."""
    path = run.record_path(results)
    if not os.path.lexists(path):
        return None
    try:
        record = _parsed(path)
        found, seed = record["recipe_hash"], record["seed"]
        if run.watched and "units" not in record:
            raise ValueError("it is of a run that was not watched")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} must be a run record in JSON; it cannot be read ({error}): move it away, and the run is made again"
        ) from error
    if found != recipe_hash(run.recipe):
        raise UsageError(
            f"{path} is of another recipe: expected {recipe_hash(run.recipe)}, got {found}: "
            f"move it away to train this one; nothing was overwritten"
        )
    if seed != run.seed:
        raise UsageError(f"{path} is the record of seed {seed}; expected seed {run.seed}: move it away")
    return record


_kept = {}  # {path as text: (what its file was when it was read, the record pickled)}
SETTLED_SECONDS = 2.0  # since a file's last change, after which another would have another time


def _parsed(path):
    """The record in a file, checked: read once, and again only when the file has changed. Raises as `_content` does."""
    about = os.stat(path)
    state = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    before, record = _kept.get(str(path), (None, None))
    if state == before:
        return pickle.loads(record)  # a copy, for whoever gets it may change it
    record = soundness.parse(_content(path, about))
    if time.time() - about.st_ctime > SETTLED_SECONDS:
        _kept[str(path)] = state, pickle.dumps(record)
    return record


def _content(path, about):
    """The bytes of a record's file, of which `about` is what the system says (os.stat).

    Raises OSError, and ValueError for what is no file, or too large for a record.
    """
    if not stat.S_ISREG(about.st_mode):  # a pipe would have us wait for ever
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # its own, for another may have been renamed into its place
        if size > soundness.MOST_BYTES:
            raise ValueError(f"it has more than {soundness.MOST_BYTES:,} bytes")
        return file.read(size)


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


def runs_of(row, tier, reduction=Reduction(), results=None, variants=None):
    """The runs of a row's recipes, or of some variants of them, that have a record, in order of seed."""
    found = []
    for variant in variants or row.networks:
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
