"""Contributed runs: finished records of somebody's machine in one file, and the check that lets them in.

invoke contribute --name "Ada"       packs what this machine has finished
invoke receive contribution.jsonl    checks each record and adds those that are new

A contribution is a text file of JSON lines: a header, then a record and its SHA-256 on each line. It names no paths:
where a record goes follows from the table, row, tier and seed that it is of. Nothing in it is ever run.
"""

import json
import math
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import filelock

from ..data import load
from ..data.cifar import CHECKSUMS
from ..errors import UsageError
from ..experiments import paper
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import Run, place
from ..results import records, soundness
from ..training.state import SAMPLE, due

FORMAT = 1
LARGEST_FILE = 256 << 20  # bytes; read line by line
LARGEST_LINE = 1 << 20  # a paper-tier record has some 10 kB
LARGEST_REMARKS = 8 << 10  # of a record without its recipe and curve
LONGEST_TEXT = 200  # characters of one string in a record
FASTEST = 1e15  # operations per second: what one device promises in bfloat16 today, and no training reaches
LARGEST_SEED = 2**32 - 1

# (training, test) images of each data set; at half their size, "cifar10-16", they are as many
COUNTS = {"digits": (1347, 450), "digit-pairs": (6000, 1000), "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000)}

# Letters and digits of any script and the marks that names of people, devices and versions have. Nothing that Markdown
# or HTML reads: pages show these words.
_WORDS = re.compile(r"[\w .,:;+\-/()@#&'=%]*")


def own(runs, results=None):
    """Those of the runs whose records git does not know yet: what this machine has made."""
    root = _root()
    if not (root / ".git").exists():
        return list(runs)
    tracked = {root / name for name in _git("ls-files", "-z", "--", "*.json").decode().split("\0")}
    return [run for run in runs if run.record_path(results).resolve() not in tracked]


def pack(path, runs, by="", results=None):
    """Write the finished records of `runs` to the contribution file `path`; returns a `Received` for each.

    by: the contributor's name as it is to be shown, "" for none. What others contributed is left to them; what this
    library would not take back is refused. Where here is no checkout, its receiver alone checks the commit.
    Raises UsageError for a file that is there already, a name that cannot be shown, and where there is nothing to pack.
    """
    path, known = Path(path), in_history if (_root() / ".git").exists() else None
    _expect(not path.exists(), f"{path} is there already: choose another file with --out")
    _expect(_shown(by), f"a name must be up to {LONGEST_TEXT} letters, digits and plain marks; got {_short(by)}")
    lines, told = [], []
    for run in runs:
        record = records.read(run, results)
        if record is None or "contributed" in record:
            continue
        try:
            check(record, known)
            lines.append({"sha256": soundness.digest(record), "record": record})
            told.append(Received("added", run.name))
        except UsageError as error:
            told.append(Received("refused", run.name, str(error)))
    _expect(told, "there is no finished run to contribute: train some, or name others with --table, --row and --tier")
    _expect(lines, "\n".join(map(str, told)))
    header = {"contribution": FORMAT, "by": by, "records": len(lines)}
    records.write_atomically(path, "".join(json.dumps(line) + "\n" for line in (header, *lines)).encode())
    return told


@dataclass(frozen=True)
class Received:
    """What became of one record of a file: `state` is "added", "known" (it was here already) or "refused".

    what: the run's name, or where in the file the record stands. why: of a refusal, one line.
    """

    state: str
    what: str
    why: str = ""

    def __str__(self):
        return f"{self.what}: {self.state}" + (f": {self.why}" if self.why else "")


def receive(path, results=None, keep=True):
    """Check each record of a file and add those that are new to `results`; yields a `Received` for each.

    path: a contribution, or one record's own file. keep: False checks and adds nothing.
    Nothing that is here is ever overwritten. Raises UsageError for a file that is neither.
    """
    seen = {}
    for number, (by, read) in enumerate(_entries(Path(path)), 1):
        yield _judged(f"record {number}", read, by, results, keep, seen)


def receive_changes(base, head, results=None):
    """Check the records that commit `head` adds to those of `base`, as `receive` does; yields a `Received` per file.

    For a pull request, seen from a checkout of its base: `head` is read as data. What stands at `base` must stand.
    """
    seen = {}
    listed = _git("diff", "--name-status", "--no-renames", "-z", base, head, "--", "results").decode().split("\0")[:-1]
    for change, name in zip(listed[::2], listed[1::2], strict=True):

        def read(change=change, name=name):
            _expect(change == "A", "a record that stands is never changed or taken away")
            size = int(_git("cat-file", "-s", f"{head}:{name}"))
            _expect(size <= LARGEST_LINE, f"a record must have at most {LARGEST_LINE >> 10} KiB; got {size} bytes")
            record = _record_alone(_git("cat-file", "blob", f"{head}:{name}"))
            place = check(record).record_path("results").as_posix()
            _expect(name == place, f"this run's record lies at {place}")
            return record

        yield _judged(name if name.isprintable() else repr(name), read, None, results, False, seen)


def _judged(what, read, by, results, keep, seen):
    """What becomes of one record. seen: those before it, by recipe's hash and seed: a check alone adds none."""
    try:
        record = read()
        run = check(record)
        what = run.name
        return Received(_add(run, record, by, results, keep, seen), what)
    except UsageError as error:
        return Received("refused", what, str(error))
    except RecursionError:
        return Received("refused", what, "it is nested too deep")


def _entries(path):
    """(contributor, a function that gives the record or raises UsageError) for each record of the file."""
    try:
        with open(path, "rb") as file:
            first = _line(file, path)
            if b'"contribution"' not in first:  # a record's own file, as it lies in a results folder
                text = first + file.read(LARGEST_LINE)
                yield None, lambda: _record_alone(text)
                return
            header = _parsed(first, f"{path} must begin with a contribution's header")
            by, count = _header(header, path)
            for number in range(1, count + 1):
                text = _line(file, path)
                if not text:
                    yield by, lambda number=number: _refuse(f"the file ends before record {number} of {count}")
                    return
                yield by, lambda text=text: _record_of_line(text)
            _expect(not file.read(1), f"{path} holds more than the {count} records that it names: it is damaged")
    except OSError as error:
        raise UsageError(f"{path} must be a contribution that can be read; {error.strerror or error}") from error


def _line(file, path):
    """The next line, read no further than a record may be long."""
    _expect(file.tell() <= LARGEST_FILE, f"{path} must be no larger than {LARGEST_FILE >> 20} MiB: split it")
    text = file.readline(LARGEST_LINE + 1)
    _expect(len(text) <= LARGEST_LINE, f"{path} must have lines of at most {LARGEST_LINE >> 10} KiB; one is longer")
    return text


def _header(header, path):
    good = isinstance(header, dict) and header.keys() == {"contribution", "by", "records"}
    _expect(good, f"{path} must begin with a contribution's header: it is damaged, or of another program")
    made, by, count = header["contribution"], header["by"], header["records"]
    _expect(made == FORMAT, f"{path} must be of format {FORMAT}; got {made!r}: update this library, or the other")
    _expect(_shown(by), f"{path}: a name must be up to {LONGEST_TEXT} letters, digits and plain marks")
    _expect(_whole(count) and count > 0, f"{path} must say how many records it holds; got {count!r}")
    return by, count


def _record_of_line(text):
    line = _parsed(text, "its line")
    _expect(isinstance(line, dict) and line.keys() == {"sha256", "record"}, "its line must hold a record and its sum")
    _expect(isinstance(line["record"], dict), f"a record must be a JSON object; got {_kind(line['record'])}")
    _expect(soundness.digest(line["record"]) == line["sha256"], "damaged on the way: its checksum does not match")
    _expect("contributed" not in line["record"], "it was contributed before: whoever ran it may contribute it")
    return line["record"]


def _record_alone(text):
    _expect(len(text) <= LARGEST_LINE, f"a record must have at most {LARGEST_LINE >> 10} KiB")
    return _parsed(text, "the file")


def _parsed(text, what):
    try:
        return soundness.loads(text)
    except ValueError as error:
        raise UsageError(f"{what} must be JSON; it cannot be read ({_short(error)})") from error


def _add(run, record, by, results, keep, seen):
    """Add a checked record unless it is here; returns its state. Raises UsageError where another is in its place."""
    key = record["recipe_hash"], record["seed"]
    here = records.read(run, results) or seen.get(key)
    if here is not None:
        same = records.numbers(here) == records.numbers(record)
        _expect(same, f"seed {run.seed} has a record with other numbers, made on {here.get('device')}: run a free seed")
        return "known"
    for other in (*_siblings(run, results), *(r for (recipe, _), r in seen.items() if recipe == key[0])):
        if other["curve"] == record["curve"]:
            _refuse(f"its curve is that of seed {other['seed']}, number by number: two seeds never train alike")
    seen[key] = record
    if keep:
        if by is not None:
            record = record | {"contributed": {"by": by, "received": datetime.now(UTC).date().isoformat()}}
        if "digest" in record:
            record = record | {"digest": soundness.digest(record)}
        run.folder(results).mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(run.lock_path(results), timeout=0):
                _expect(not run.record_path(results).exists(), "a record of it was written just now: receive it again")
                records.store(run, record, results)
            run.lock_path(results).unlink(missing_ok=True)
        except filelock.Timeout:
            raise UsageError("it is being trained here: receive it once more when that has ended") from None
    return "added"


def _siblings(run, results):
    """The records of the same recipe's other seeds."""
    for seed in run.seeds(results, (".json",)):
        other = records.peek(Run(run.row, run.variant, run.tier, seed, run.reduction), results)
        if other:
            yield other


@lru_cache(maxsize=1000)
def in_history(commit):
    """Whether a commit is of the past of this checkout."""
    try:
        _git("merge-base", "--is-ancestor", commit, "HEAD")
    except UsageError:
        return False
    return True


def _root():
    """The checkout's folder, where the library is of one."""
    return Path(__file__).resolve().parents[3]


def _git(*words):
    """What git says about the checkout that the library is of, in bytes. Raises UsageError where it fails."""
    try:
        return subprocess.run(["git", "-C", str(_root()), *words], capture_output=True, check=True).stdout
    except OSError as error:
        raise UsageError(f"contributions are checked in a checkout with git; git cannot be run ({error})") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines() or ["it says no more"]
        raise UsageError(f"git {' '.join(words[:2])} failed: {reason[-1]}") from error


def check(record, known=in_history):
    """The `Run` whose record this can be. Raises UsageError for one that this library cannot have written.

    known(commit): whether it is of this repository's past, None to leave that to others.
    It must be sound, as every record that is read; beyond that the recipe must be ours, the data official, the commit
    known, and the curve one that the protocol gives: an entry at the end of each epoch and of the schedule, the rates
    of the schedule, errors that are whole numbers of images.
    It tells damage and carelessness, not a careful forgery: only training the seed again does.
    """
    try:
        soundness.check(record)
    except ValueError as error:
        raise UsageError(str(error)) from error
    run = _run_of(record)
    _words_and_sizes(record)
    _where_from(record, run, known)
    _curve(record, run)
    _speed(record, run)
    return run


def _run_of(record):
    """The run that the record names, if its recipe is the one that this library trains for it."""
    _expect(record["tier"] in TIERS, f"tier must be one of {', '.join(TIERS)}; got {_short(record['tier'])}")
    _expect(record["seed"] <= LARGEST_SEED, f"seed must be from 0 to {LARGEST_SEED}; got {_short(record['seed'])}")
    _expect(len(record["reduction"]) <= 60, "reduction is too long")
    (row,) = paper.rows(record["table"], [record["row"]])
    _expect(record["variant"] in row.networks, f"row {row.id} has no variant {_short(record['variant'])}")
    home, _ = place(row, record["variant"])
    _expect(home is row, f"this recipe's records lie with row {home.id} of {home.table}")
    run = Run(row, record["variant"], record["tier"], record["seed"], Reduction.parse(record["reduction"]))
    _expect(_images(run) in COUNTS, f"runs on {run.recipe.dataset} cannot be checked here")
    ours, theirs = records.recipe_hash(run.recipe), record["recipe_hash"]
    _expect(theirs == ours, f"of another recipe: expected {ours}, got {_short(theirs)}")
    _expect(record["recipe"] == run.recipe.to_json(), "the recipe that it spells out is not the one of its hash")
    return run


def _words_and_sizes(record):
    """Nothing in the record is larger than what a record holds, or is text that a page would read as more than text."""
    remarks = {key: value for key, value in record.items() if key not in ("recipe", "curve")}
    size = len(json.dumps(remarks))
    _expect(size <= LARGEST_REMARKS, f"all but recipe and curve must fit into {LARGEST_REMARKS} bytes; got {size}")
    for text in _texts(remarks):
        _expect(_shown(text), f"text must be up to {LONGEST_TEXT} letters, digits and plain marks; got {_short(text)}")


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _where_from(record, run, known):
    """Device, versions, precision, commit, data and time."""
    for key in ("device", "precision"):
        _expect(record[key], f"{key} must be named; it is empty")
    _expect({"python", "torch"} <= record["versions"].keys(), "versions must name python and torch")
    try:
        written = datetime.fromisoformat(record["written"])
        early = written <= datetime.now(UTC) + timedelta(days=1)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"written must be a time with its zone; got {_short(record['written'])}") from None
    _expect(early, f"written lies in the future: {record['written']}")
    checksum = data_checksum(_images(run))
    _expect(record["data_checksum"] == checksum, f"data_checksum must be {checksum[:16]}..., the official data's")
    _commit(record["commit"], known)
    given = record.get("contributed")
    if given is not None:  # a record's own file, received before
        good = isinstance(given, dict) and given.keys() == {"by", "received"}
        _expect(good and all(isinstance(v, str) for v in given.values()), "contributed must say by whom and when")


@lru_cache
def data_checksum(name):
    """The checksum that a record's data set of that name must have."""
    return CHECKSUMS.get(name) or load(name).checksum


def _commit(commit, known):
    """Raises UsageError for what is no commit, or for one that is not `known`."""
    _expect(commit is not None, "commit is missing: train from a checkout, or from an installation of one")
    _expect(not commit.endswith("+changes"), "made by a library with changes of its own: train with a commit as it is")
    _expect(re.fullmatch(r"[0-9a-f]{40}", commit), f"commit must be 40 hex digits; got {_short(commit)}")
    _expect(known is None or known(commit), f"commit {commit[:12]} is none of this repository's: fetch its history")


def _curve(record, run):
    """The curve is one that the run's protocol gives, up to where it ended."""
    curve = record["curve"]
    _expect(curve.keys() == soundness.CURVE.keys(), f"curve must have the columns {', '.join(soundness.CURVE)}")
    expected, protocol = curve["iteration"], run.recipe.protocol
    diverged = record["status"] == "diverged"
    full = [every[: len(expected)] if diverged else every for every in entries(run)]
    _expect(expected in full, "curve must have its entries where the trainer makes them, up to its end")
    at = expected[-1] if diverged else None
    _expect(record["diverged_at"] == at, f"diverged_at must be {at}")
    rates = zip(curve["rate"], (protocol.rate(i - 1) for i in expected), strict=True)
    # a first release multiplied where this one divides: equal to the last bit but one
    as_scheduled = all(math.isclose(ours, theirs, rel_tol=1e-12) for ours, theirs in rates)
    _expect(as_scheduled, "the curve's rates are not the schedule's")
    last, images = len(expected) - 1, _counts(run)[1]
    between = record.get("curve_test_images", images)
    _expect(between in (SAMPLE, images), f"curve_test_images must be {SAMPLE}; got {_short(between)}")
    columns = (curve[name] for name in ("train_loss", "train_error", "test_error"))
    for k, (loss, train, test) in enumerate(zip(*columns, strict=True)):
        at = f"at iteration {expected[k]}"
        seen = (expected[k] - (expected[k - 1] if k else 0)) * protocol.batch
        _expect(_share(train, seen), f"the training error {at} is no number of images of {seen}; got {_short(train)}")
        if k == last and diverged:
            _expect(loss is None and test is None, "a diverged run must end without a loss and a test error")
            continue
        _expect(loss is not None and loss >= 0, f"the training loss {at} must be a number; got {_short(loss)}")
        tested = images if k == last else between
        _expect(_share(test, tested), f"the test error {at} is no number of images of {tested}; got {_short(test)}")


def entries(run):
    """The iterations at which a run may have made the entries of its curve, one list for each rule there was.

    The trainer's own; and once an epoch and at the end, as it was for every run before 2026-11-24.
    """
    return _entries_of(run.recipe.protocol, _counts(run)[0])


@lru_cache
def _entries_of(protocol, images):
    now = [i for i in range(1, protocol.iterations + 1) if due(i, protocol, images)]
    epochs = range(1, protocol.iterations * protocol.batch // images + 1)
    before = sorted({*(-(-images * epoch // protocol.batch) for epoch in epochs), protocol.iterations})
    return [now] if now == before else [now, before]


def _counts(run):
    """(training, test) images of a run."""
    train, test = COUNTS[_images(run)]
    folds = run.recipe.folds
    if folds is not None:
        held = len(range(run.seed % folds, train, folds))
        train, test = train - held, held
    return train, test


def _share(percent, images):
    """Whether `percent` is that of a whole number of `images`."""
    if percent is None:
        return False
    wrong = percent * images / 100
    return abs(wrong - round(wrong)) < 1e-6


def _speed(record, run):
    """The time that the run says it took is not less than any device takes."""
    for key in ("wall_seconds", "device_seconds"):
        _expect(record[key] >= 0, f"{key} must be seconds; got {_short(record[key])}")
    done = record["curve"]["iteration"][-1] * run.recipe.protocol.batch
    operations = run.counts.training_flops * done
    seconds = record["device_seconds"]
    _expect(
        operations <= FASTEST * max(seconds, 0.05), f"{seconds} seconds are too few for {operations:.1e} operations"
    )


def _images(run):
    """The data set whose images the run's are, at whatever size."""
    return run.recipe.dataset.removesuffix("-16")


def _expect(condition, line):
    if not condition:
        raise UsageError(line)


def _refuse(line):
    raise UsageError(line)


def _shown(text):
    return isinstance(text, str) and len(text) <= LONGEST_TEXT and _WORDS.fullmatch(text) is not None


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value):
    return {dict: "an object", list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)


def _short(value):
    """A stranger's value as one line shows it: no more than 60 characters, all of them printable."""
    text = value if isinstance(value, Exception) else repr(value)
    text = "".join(c if c.isprintable() else "?" for c in str(text).replace("\n", " "))
    return text if len(text) <= 60 else text[:57] + "..."
