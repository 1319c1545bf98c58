"""Contributed runs: true records are taken once, forged and damaged ones never, and nothing here is overwritten."""

import copy
import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
from conftest import known, small_run
from hypothesis import given, settings
from hypothesis import strategies as st

from identity_mappings.data import load
from identity_mappings.errors import UsageError
from identity_mappings.experiments.runs import Run
from identity_mappings.machines import contributions
from identity_mappings.results import records, soundness
from identity_mappings.training import train

COMMITTED = Path(__file__).resolve().parents[2] / "results"
TRUE = [json.loads(path.read_text()) for path in known("seed-*")][::2]
LONG = json.loads((COMMITTED / "quick/table-1/original@depth-20/seed-0.json").read_text())  # of seventeen epochs


@pytest.fixture(autouse=True, scope="module")
def a_quick_disk():
    """What reaches the disk when is not tested here, and takes a second a file where others write too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records.os, "fsync", lambda file: None)
        yield


def run_of(record):
    return contributions._run_of(record)


def packed(tmp_path, taken=None, by="Ada Lovelace"):
    """A contribution of those records, as `pack` writes it."""
    taken = TRUE if taken is None else taken
    home, path = tmp_path / "theirs", tmp_path / "contribution.jsonl"
    for record in taken:
        records.store(run_of(record), record, home)
    told = contributions.pack(path, [run_of(record) for record in taken], by, home)
    assert [each.state for each in told] == ["added"] * len(taken)
    return path


def states(path, results, **choices):
    return [each.state for each in contributions.receive(path, results, **choices)]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_true_records_are_taken_and_twice_is_once(tmp_path):
    """Every other committed record: more than fifty runs of real training."""
    path, ours = packed(tmp_path), tmp_path / "ours"
    assert len(TRUE) >= 50
    assert states(path, ours, keep=False) == ["added"] * len(TRUE) and not ours.exists()
    assert states(path, ours) == ["added"] * len(TRUE)
    for record in TRUE:
        got = records.read(run_of(record), ours)
        assert got["contributed"].pop("by") == "Ada Lovelace" and got.pop("contributed")["received"]
        assert records.numbers(got) == records.numbers(record) and got["device"] == record["device"]
    before = files(ours)
    assert len(before) == len(TRUE)  # records and nothing else
    assert states(path, ours) == ["known"] * len(TRUE)
    assert files(ours) == before


def set_to(*place, value):
    def forge(record):
        *path, last = place
        for key in path:
            record = record[key]
        record[last] = value

    return forge


def without(key):
    return lambda record: record.pop(key)


def better(record):
    """The usual forgery: a better error than the run had, the curve's end with it."""
    record["test_error"] = record["curve"]["test_error"][-1] = record["test_error"] - 0.005


def only_the_headline(record):
    record["test_error"] = round(record["test_error"] - 1, 2)


def a_lower_curve(record):
    record["curve"]["train_error"][-1] -= 0.01


def other_recipe_own_hash(record):
    """A run with another rate, which says so everywhere but calls itself the row's."""
    record["recipe"]["protocol"]["learning_rate"] = 0.2


def claims_a_shorter_schedule(record):
    record["recipe"]["protocol"]["iterations"] = 32


def one_entry_less(record):
    for column in record["curve"].values():
        column.pop(0)


def one_entry_more(record):
    for column in record["curve"].values():
        column.append(column[-1])


def diverged_with_a_result(record):
    record["status"], record["diverged_at"] = "diverged", record["curve"]["iteration"][-1]


FORGED = {
    "nothing at all": lambda record: record.clear(),
    "a better error": better,
    "a better headline": only_the_headline,
    "an error of no whole images": a_lower_curve,
    "another rate under the row's hash": other_recipe_own_hash,
    "a shorter schedule under the row's hash": claims_a_shorter_schedule,
    "an entry left out": one_entry_less,
    "an entry twice": one_entry_more,
    "diverged, with a result": diverged_with_a_result,
    "an error below zero": set_to("test_error", value=-1.0),
    "an error above 100": set_to("test_error", value=101.0),
    "an error that is text": set_to("test_error", value="1.00"),
    "an error that is a list": set_to("test_error", value=[1.0]),
    "an error that is null": set_to("test_error", value=None),
    "an error that is true": set_to("test_error", value=True),
    "a huge whole number": set_to("test_error", value=10**400),
    "a loss below zero": set_to("curve", "train_loss", 0, value=-0.5),
    "a loss that is null": set_to("curve", "train_loss", 0, value=None),
    "a loss that is text": set_to("curve", "train_loss", 0, value="low"),
    "a training error above 100": set_to("curve", "train_error", 0, value=250.0),
    "a test error between two images": set_to("curve", "test_error", 0, value=12.3456),
    "a rate of its own": set_to("curve", "rate", 0, value=0.05),
    "iterations that go back": lambda record: record["curve"]["iteration"].reverse(),
    "an iteration beyond the end": set_to("curve", "iteration", -1, value=10**6),
    "a column missing": lambda record: record["curve"].pop("rate"),
    "a column more": set_to("curve", "best_error", value=[1.0]),
    "a column that is short": lambda record: record["curve"]["train_error"].pop(),
    "a column that is no list": set_to("curve", "train_error", value=7),
    "a curve that is no object": set_to("curve", value=[1, 2, 3]),
    "an empty curve": lambda record: [column.clear() for column in record["curve"].values()],
    "no curve": without("curve"),
    "no commit": set_to("commit", value=None),
    "changes of its own": lambda record: record.update(commit=record["commit"] + "+changes"),
    "an unknown commit": set_to("commit", value="0123456789" * 4),
    "an option for git as commit": set_to("commit", value="--help"),
    "other data": set_to("data_checksum", value="0" * 64),
    "no checksum of data": without("data_checksum"),
    "another format": set_to("format", value=99),
    "a tier that is none": set_to("tier", value="gold"),
    "another tier": lambda record: record.update(tier="paper", reduction=""),
    "a row that is none": set_to("row", value="best-of-all"),
    "a path for a row": set_to("row", value="../../../../etc/passwd"),
    "a path for a variant": set_to("variant", value="../../.."),
    "a path for a reduction": set_to("reduction", value="depth-20/../.."),
    "a table that is none": set_to("table", value=77),
    "a table that is a list": set_to("table", value=[1]),
    "a seed below zero": set_to("seed", value=-1),
    "a seed beyond torch's": set_to("seed", value=2**64),
    "a seed that is text": set_to("seed", value="0"),
    "a seed that is true": set_to("seed", value=True),
    "another hash": set_to("recipe_hash", value="000000000000"),
    "a status of its own": set_to("status", value="won"),
    "finished, and diverged": set_to("diverged_at", value=20),
    "no time at all": lambda record: record.update(wall_seconds=0.0, device_seconds=0.0),
    "time below zero": set_to("device_seconds", value=-5.0),
    "time that is text": set_to("wall_seconds", value="long"),
    "written tomorrow week": set_to("written", value="2999-01-01T00:00:00+00:00"),
    "written never": set_to("written", value="yesterday"),
    "markup in the device": set_to("device", value="<script>alert(1)</script>"),
    "a table's border in the device": set_to("device", value="A | B"),
    "a device of a page": set_to("device", value="x" * 5000),
    "no device": without("device"),
    "versions that are text": set_to("versions", value="2.6"),
    "versions without torch": lambda record: record["versions"].pop("torch"),
    "a megabyte of remarks": set_to("remarks", value=["x" * 100] * 5000),
    "contributed by somebody else": set_to("contributed", value={"by": "Somebody", "received": "2026-01-01"}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_record_is_refused_and_the_true_ones_beside_it_are_taken(tmp_path, forge):
    """The forger knows the format: sums and counts of the file are right."""
    first, last = TRUE[0], TRUE[-1]
    forged = copy.deepcopy(LONG)
    forge(forged)
    path = tmp_path / "contribution.jsonl"
    lines = [{"sha256": soundness.digest(record), "record": record} for record in (first, forged, last)]
    header = {"contribution": 1, "by": "Mallory", "records": 3}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    received = list(contributions.receive(path, tmp_path / "ours"))
    assert [each.state for each in received] == ["added", "refused", "added"]
    assert received[1].why and "\n" not in str(received[1]) and len(str(received[1])) < 2000
    assert len(files(tmp_path / "ours")) == 2


def test_there_are_fifty_forgeries():
    assert len(FORGED) >= 50


def test_a_copied_run_under_another_seed_is_refused(tmp_path):
    copied = LONG | {"seed": 77}
    ours = tmp_path / "ours"
    assert states(packed(tmp_path, [LONG, copied]), ours) == ["added", "refused"]
    again = list(contributions.receive(packed(tmp_path / "again", [copied]), ours))
    assert "its curve is that of seed" in again[0].why


def test_another_record_of_a_run_is_refused_and_ours_stands(tmp_path):
    ours, other = tmp_path / "ours", copy.deepcopy(LONG)
    other["curve"]["train_loss"][0] += 0.25
    assert states(packed(tmp_path, [LONG]), ours) == ["added"]
    before = files(ours)
    (received,) = contributions.receive(packed(tmp_path / "other", [other]), ours)
    assert received.state == "refused" and "has a record with other numbers" in received.why
    assert files(ours) == before


def test_a_run_that_is_being_trained_here_is_not_added(tmp_path):
    ours, path = tmp_path / "ours", packed(tmp_path, [LONG])
    lock = run_of(LONG).lock_path(ours)
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        (received,) = contributions.receive(path, ours)
    assert received.state == "refused" and "being trained here" in received.why


def test_a_records_own_file_is_checked_as_well(tmp_path):
    path = tmp_path / "seed-0.json"
    path.write_text(json.dumps(LONG))
    assert states(path, tmp_path / "ours", keep=False) == ["added"]
    path.write_text(json.dumps(LONG | {"test_error": 0.0}))
    assert states(path, tmp_path / "ours", keep=False) == ["refused"]


@pytest.mark.parametrize(
    "content, line",
    [
        (b"", "must be JSON|must begin"),
        (b"PK\x03\x04 a zip", "JSON"),
        (b'{"contribution": 1}\n', "must begin with a contribution's header"),
        (b'{"contribution": 2, "by": "", "records": 1}\n', "must be of format 1; got 2"),
        (b'{"contribution": 1, "by": "<b>", "records": 1}\n', "a name must be"),
        (b'{"contribution": 1, "by": "", "records": true}\n', "how many records"),
        (b'{"contribution": 1, "by": "", "records": 0}\n', "how many records"),
        (b'{"contribution": ' + b"[" * 100_000, "cannot be read|JSON"),
        (b'{"contribution": 1' + b"0" * (2 << 20), "lines of at most"),
    ],
)
def test_a_file_that_is_no_contribution_is_one_line(tmp_path, content, line):
    path = tmp_path / "contribution.jsonl"
    path.write_bytes(content)
    try:
        (received,) = contributions.receive(path, tmp_path / "ours")
        said = received.why
        assert received.state == "refused"
    except UsageError as error:
        said = str(error)
    assert re.search(line, said) and "\n" not in said
    assert not (tmp_path / "ours").exists()


def test_a_file_cut_short_gives_what_is_whole(tmp_path):
    path = packed(tmp_path, TRUE[:4])
    path.write_bytes(path.read_bytes()[:-300])
    received = list(contributions.receive(path, tmp_path / "ours"))
    assert [each.state for each in received] == ["added"] * 3 + ["refused"]


def test_pack_overwrites_nothing_and_leaves_out_what_others_ran(tmp_path):
    path = packed(tmp_path, [LONG])
    with pytest.raises(UsageError, match="is there already"):
        contributions.pack(path, [run_of(LONG)], "", tmp_path / "theirs")
    with pytest.raises(UsageError, match="a name must be"):
        contributions.pack(tmp_path / "b.jsonl", [run_of(LONG)], "<i>", tmp_path / "theirs")
    assert states(path, tmp_path / "ours") == ["added"]
    with pytest.raises(UsageError, match="no finished run to contribute"):
        contributions.pack(tmp_path / "c.jsonl", [run_of(LONG)], "", tmp_path / "ours")


def committed(repository, *words):
    subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one record at `base`, and a function that commits files on top of it and checks the changes."""
    place = tmp_path / "repository"
    place.mkdir()
    committed(place, "init", "-q", "-b", "main")
    for name in ("user.name", "user.email"):
        committed(place, "config", name, "a@example.org")
    records.store(run_of(LONG), LONG, place / "results")
    committed(place, "add", ".")
    committed(place, "commit", "-qm", "base")
    committed(place, "tag", "base")
    asked = contributions._git

    def git(*words):  # of the history of commits, the checkout's own; of changes, this repository's
        if words[0] == "merge-base":
            return asked(*words)
        return subprocess.run(["git", "-C", str(place), *words], capture_output=True, check=True).stdout

    monkeypatch.setattr(contributions, "_git", git)

    def changed(files):
        for name, record in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(record if isinstance(record, str) else json.dumps(record))
        committed(place, "add", "-A")
        committed(place, "commit", "-qm", "head")
        committed(place, "tag", "-f", "head")
        committed(place, "reset", "-q", "--hard", "base")  # as the workflow has it: the head is data
        return list(contributions.receive_changes("base", "head", place / "results"))

    return changed


def place_of(record):
    return run_of(record).record_path("results").as_posix()


def test_the_records_of_a_pull_request_are_checked_and_those_that_stand_must_stand(repository, tmp_path):
    new, first = next(r for r in TRUE if r["recipe_hash"] != LONG["recipe_hash"]), place_of(LONG)
    by = new | {"contributed": {"by": "Ada", "received": "2026-11-24"}}

    def why(files):
        return [(each.state, each.why) for each in repository(files)]

    assert why({place_of(new): by, "README.md": "words"}) == [("added", "")]
    assert why({place_of(new): new | {"test_error": 0.0}})[0][0] == "refused"
    assert why({place_of(new).replace("seed-", "seed-1"): new}) == [
        ("refused", f"this run's record lies at {place_of(new)}")
    ]
    assert why({first: LONG | {"test_error": 1.0}}) == [
        ("refused", "a record that stands is never changed or taken away")
    ]
    assert why({"results/quick/notes.txt": "words"})[0][0] == "refused"
    assert "at most 1024 KiB" in why({place_of(new): new | {"remarks": "x" * (2 << 20)}})[0][1]


@pytest.fixture(scope="module")
def contribution(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("packed"), TRUE[:3]).read_bytes()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_is_changed_in_a_file_no_other_numbers_come_in(contribution, tmp_path_factory, data):
    """Bits flipped, pieces cut, doubled or overwritten: a record that is added is one that was packed."""
    folder = tmp_path_factory.mktemp("fuzz")
    path, content = folder / "contribution.jsonl", bytearray(contribution)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double", "write"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 400))]
            case "double":
                content[at:at] = content[at : at + data.draw(st.integers(1, 400))]
            case "write":
                content[at:at] = data.draw(st.binary(max_size=20))
        if not content:
            return
    path.write_bytes(bytes(content))
    said = []
    try:
        said += contributions.receive(path, folder / "ours")
    except UsageError as error:
        assert "\n" not in str(error)
    true = [records.numbers(record) for record in TRUE[:3]]
    for each in (folder / "ours").rglob("*.json"):
        assert records.numbers(json.loads(each.read_text())) in true


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=8), PLAIN, max_size=3)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_in_a_record_is_an_answer_and_never_a_traceback(data):
    record = copy.deepcopy(LONG)
    inner, path = record, []
    while True:
        key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
        path.append(key)
        if not isinstance(inner[key], dict | list) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(JSON)
    try:
        contributions.check(record)
    except UsageError as error:
        assert "\n" not in str(error)
    else:  # it may say otherwise who ran it, where and how long; never what came out, or of which recipe
        changed = {key for key in LONG if record.get(key) != LONG[key]} | (record.keys() - LONG.keys())
        about = {"device", "threads", "versions", "written", "wall_seconds", "device_seconds", "precision", "seed"}
        assert changed <= about or (path[:2] == ["curve", "train_loss"] and math.isfinite(inner[key]))


def test_counts_are_those_of_the_data_sets():
    for name in ("digits", "digit-pairs"):
        data = load(name)
        assert contributions.COUNTS[name] == (len(data.x_train), len(data.x_test))


class Exploding(Run):
    """A run whose rate no network survives."""

    @property
    def recipe(self):
        whole = super().recipe
        return replace(whole, protocol=replace(whole.protocol, learning_rate=1e30))


@pytest.mark.parametrize("changes", [{}, {"cls": Exploding}], ids=["finished", "diverged"])
def test_a_record_that_the_trainer_writes_today_passes(tmp_path, changes):
    run = small_run(1, "original", iterations=30, **changes)
    record = train(run, results=tmp_path, threads=1) | {"commit": LONG["commit"]}  # a checkout may have changes
    if changes:  # the rate that makes it diverge is no recipe of ours
        plain = small_run(1, "original", iterations=30)
        record |= {"recipe": plain.recipe.to_json(), "recipe_hash": records.recipe_hash(plain.recipe)}
        record["curve"]["rate"] = [plain.recipe.protocol.rate(i - 1) for i in record["curve"]["iteration"]]
    record.pop("digest", None)
    contributions.check(record)
    assert (len(record["curve"]["iteration"]) < 20) == (record["status"] == "diverged") == bool(changes)
