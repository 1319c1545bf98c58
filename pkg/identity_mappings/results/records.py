"""Run records: one JSON file a run, the only source of every reproduced number; and what they add up to."""

import json
import math
import os
import stat
import statistics
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

from ..errors import UsageError
from ..experiments.protocols import TIERS, Reduction
from ..experiments.rows import FAIL_ABOVE
from ..experiments.runs import Run, place
from . import soundness

# Two-sided 95 % quantiles of Student's t by degrees of freedom; the paper's n of 5 and a little beyond is all we need.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

# An interval wider than this, in percentage points to each side, cannot tell the paper's rows apart.
RESOLUTION = 0.5

# A small tier's row counts as near its baseline when it is no more than this above it, in percentage points.
NEARNESS = 2.0


def seen(shown):
    """How a tier's verdict says whether its runs show what the paper states."""
    return "seen" if shown else "not seen"


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
        record = soundness.parse(_content(path))
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


def _content(path):
    """The bytes of a record's file. Raises OSError, and ValueError for what is no file, or too large for a record."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would have us wait for ever
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        content = file.read(soundness.MOST_BYTES + 1)
    if len(content) > soundness.MOST_BYTES:
        raise ValueError(f"it has more than {soundness.MOST_BYTES:,} bytes")
    return content


def peek(run, results=None):
    """The run's record, or None where it has none that can be used."""
    try:
        return read(run, results)
    except UsageError:
        return None


NUMBERS = ("recipe_hash", "seed", "status", "test_error", "diverged_at", "curve", "precision", "data_checksum")


def numbers(record):
    """The part of a record that the same run gives again: all but times, places and versions."""
    return {key: record[key] for key in NUMBERS}


def _quantile(n):
    """Student's t for a 95 % interval from n values; past n = 10 a little wide, never narrow."""
    return T_95.get(n - 1, 2.23)


@dataclass(frozen=True)
class Summary:
    """What the runs of one row and tier add up to. Errors are percent on the test set at the last iteration.

    errors: one a run, ascending; a diverged run counts as infinite. records: the records behind them.
    """

    row: object
    tier: str
    errors: tuple
    records: tuple

    @property
    def n(self):
        return len(self.errors)

    @property
    def diverged(self):
        return sum(math.isinf(error) for error in self.errors)

    @property
    def median(self):
        """Percent, as the paper reports it; None without runs."""
        return statistics.median(self.errors) if self.errors else None

    @property
    def spread(self):
        """(mean, standard deviation) in percent of two runs or more that all ended; else None."""
        if self.n < 2 or self.diverged:
            return None
        return statistics.mean(self.errors), statistics.stdev(self.errors)

    @property
    def half_width(self):
        """Half of the 95 % interval, in points, for our median less the paper's; None below two runs.

        Both medians vary: ours over n runs and the paper's over 5, with the standard deviation of our runs for both.
        A median's variance is pi/2 times a mean's.
        """
        if self.spread is None:
            return None
        return _quantile(self.n) * self.spread[1] * math.sqrt(math.pi / 2 * (1 / self.n + 1 / 5))

    @property
    def fails(self):
        """Whether the median is what Table 1, and only it, calls "fail": above 20 %."""
        return self.row.table == 1 and self.median is not None and self.median > FAIL_ABOVE

    def error(self):
        """The result as a table prints it: the median, then mean ± standard deviation in brackets; never blank."""
        if not self.n:
            return "not run"
        if math.isinf(self.median):
            return "fail" if self.fails else "diverged"
        spread = f" ({self.spread[0]:.2f} ± {self.spread[1]:.2f})" if self.spread else ""
        return f"{'fail: ' if self.fails else ''}{self.median:.2f}{spread}"

    def runs(self):
        """The number of runs behind the result, with those that diverged."""
        return f"{self.n} ({self.diverged} diverged)" if self.diverged else str(self.n)

    def __str__(self):
        return f"{self.error()}, n = {self.runs()}" if self.n else self.error()

    def verdict(self, baseline=None):
        """How the result stands to the paper.

        Paper tier, against the paper's number: "consistent", "differs", or "underpowered" with the interval.
        Smaller tiers, whose numbers are not the paper's: whether what the paper says of this row against its baseline
        (a Summary of the same tier) is "seen" or "not seen".
        """
        if not self.n:
            return "not run"
        if self.tier == "paper":
            return self._against_the_paper()
        claim = self.row.claim
        if claim is None:
            return "baseline" if self.row.baseline is None else ""
        if claim == "fails":
            if self.fails and baseline is not None and baseline.fails:
                return f"fails, but so does {self.row.baseline}: says nothing"
            return f"fails: {seen(self.fails)}"
        if baseline is None or not baseline.n:
            return f"{claim} than {self.row.baseline}: baseline not run"
        gap = self.median - baseline.median if not math.isinf(self.median) else math.inf
        if math.isinf(self.median) and math.isinf(baseline.median):
            gap = 0.0
        shown = {"worse": gap > 0, "better": gap <= 0, "near": gap <= NEARNESS}[claim]
        relation = "near" if claim == "near" else f"{claim} than"
        return f"{relation} {self.row.baseline}: {seen(shown)}"

    def _against_the_paper(self):
        published = self.row.published
        if published.fails or self.fails:
            return "consistent" if published.fails == self.fails else "differs"
        if self.half_width is None and not math.isinf(self.median):
            return f"underpowered (n={self.n}: no interval)"
        gap = self.median - published.error
        if math.isinf(gap):
            return "differs"
        if abs(gap) > self.half_width:
            return "differs"
        if self.half_width <= RESOLUTION:
            return "consistent"
        return f"underpowered ({gap:+.2f} ± {self.half_width:.2f})"


def difference(ours, baseline):
    """(mean, half of its 95 % interval) of the errors of `ours` less those of `baseline`, in points, paired by seed.

    Both are Summaries of rows that differ in one choice, so that a seed gives both the same batches. None below two
    pairs, and where a run of a pair diverged.
    """
    errors = [{record["seed"]: record["test_error"] for record in summary.records} for summary in (ours, baseline)]
    if ours.diverged or baseline.diverged:
        return None
    gaps = [errors[0][seed] - errors[1][seed] for seed in errors[0].keys() & errors[1].keys()]
    return interval(gaps) if len(gaps) >= 2 else None


def interval(values):
    """(mean, half of its 95 % interval) of two values or more."""
    return statistics.mean(values), _quantile(len(values)) * statistics.stdev(values) / math.sqrt(len(values))


def runs_of(row, tier, reduction=Reduction(), results=None):
    """The runs of a row's recipes that have a record, in order of seed."""
    found = []
    for variant in row.networks:
        seeds = Run(*place(row, variant), tier, 0, reduction).seeds(results, (".json",))
        found += [Run(*place(row, variant), tier, seed, reduction) for seed in seeds]
    return found


def summary(row, tier, reduction=Reduction(), results=None):
    """The `Summary` of a row's records in a tier. A row of several variants counts each variant's runs."""
    records = [read(run, results) for run in runs_of(row, tier, reduction, results)]
    errors = [math.inf if record["status"] == "diverged" else record["test_error"] for record in records]
    return Summary(row, tier, tuple(sorted(errors)), tuple(records))


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
