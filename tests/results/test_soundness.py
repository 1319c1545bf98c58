"""Records that are not what they must be: damaged, of other types, contradictory, or no files at all."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import known
from fuzz_records import fuzz

from identity_mappings import UsageError, commands
from identity_mappings.analysis.measurements import UnitMeasurement
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.results import records, soundness, tables
from identity_mappings.results.statistics import summarise


@pytest.fixture
def written(run, outcome, tmp_path):
    return records.write(run, outcome(12.5), tmp_path)


def refusal(run, tmp_path):
    with pytest.raises(UsageError, match=r"^[^\n]*seed-0.json must be a run record in JSON; .*move it away") as caught:
        records.read(run, tmp_path)
    return str(caught.value)


def test_any_single_bit_that_flips_is_seen_or_changes_nothing(run, written, tmp_path):
    path = run.record_path(tmp_path)
    content = path.read_bytes()
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        try:
            found = soundness.parse(bytes(flipped))
        except ValueError:
            continue
        # the key "digest" itself may be another; all that is kept beside it is as it was
        assert {key: found[key] for key in written if key != "digest"} == {
            key: written[key] for key in written if key != "digest"
        }


def test_a_record_of_before_the_digest_is_read(run, written, tmp_path):
    del written["digest"]
    run.record_path(tmp_path).write_text(json.dumps(written))
    assert records.read(run, tmp_path) == written


@pytest.mark.parametrize("folder", ["results", "book/precision"])
def test_the_committed_records_are_sound(folder):
    paths = known(folder=folder)
    assert paths
    for path in paths:
        assert soundness.parse(path.read_bytes())["format"] == 1


WRONG = [None, True, [], {}, "", "12", -1, 1.5, 1e300, 10**30, [None], {"": None}]
WRONG_TYPES = [
    (name, value) for name, sound in soundness.FIELDS.items() for value in WRONG if not sound(value)
]  # what a field does not accept by its own words; that these are not too few is counted below


@pytest.mark.parametrize("digest", [True, False], ids=["digest", "none"])
def test_a_field_of_another_type_is_named(run, written, tmp_path, digest):
    assert len(WRONG_TYPES) > 200
    for name, value in WRONG_TYPES:
        changed = written | {name: value}
        del changed["digest"]
        if digest:
            changed["digest"] = soundness.digest(changed)
        run.record_path(tmp_path).write_text(json.dumps(changed))
        assert f"its {name} is not what it must be" in refusal(run, tmp_path)


UNITS = {"iteration": 0} | {name: [0.5] for name in soundness.UNITS}  # what one unit was at one moment


def test_units_have_the_measurements_that_are_taken(run, written, tmp_path):
    taken = {field.name for field in fields(UnitMeasurement)} - {"unit"}
    assert soundness.UNITS.keys() == taken
    soundness.check(sealed(written | {"units": [UNITS | {"gradient": [None]}]}))


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"test_error": None}, "finished, which its test_error and diverged_at contradict"),
        ({"test_error": 4.22}, "its test_error is not the last of its curve"),
        ({"test_error": [12.5]}, "its test_error is not what it must be"),
        ({"test_error": "12.5"}, "its test_error is not what it must be"),
        ({"test_error": 100.5}, "its test_error is not what it must be"),
        ({"diverged_at": 3}, "finished, which its test_error and diverged_at contradict"),
        ({"status": "diverged"}, "diverged, which its test_error and diverged_at contradict"),
        ({"status": "running"}, "its status is not what it must be"),
        ({"format": 2}, "its format is not what it must be"),
        ({"recipe": {}}, "its recipe has another hash than its recipe_hash"),
        ({"units": []}, "its units is not what it must be"),
        ({"units": [UNITS | {"truncated": ["a"]}]}, "its units is not what it must be"),
        ({"units": [UNITS | {"truncated": [None]}]}, "its units is not what it must be"),  # found by the fuzzer
        ({"units": [UNITS | {"truncated": [1.5]}]}, "its units is not what it must be"),
        ({"units": [UNITS | {"iteration": None}]}, "its units is not what it must be"),
        ({"units": [{key: UNITS[key] for key in UNITS if key != "gradient"}]}, "its units is not what it must be"),
        ({"units": [UNITS, {key: 2 * UNITS[key] for key in UNITS}]}, "its units is not what it must be"),
        ({"curve_test_images": "all"}, "its curve_test_images is not what it must be"),
        ({"digest": "0" * 64}, "its digest does not match"),
        ({"digest": None}, "its digest does not match"),
    ],
)
def test_what_contradicts_itself_is_refused(run, written, tmp_path, changes, fault):
    changed = written | changes
    if changes.keys() == {"test_error"} and changes["test_error"] is None:
        changed["curve"]["test_error"] = [None]
    if "digest" not in changes:
        changed["digest"] = soundness.digest(changed)
    run.record_path(tmp_path).write_text(json.dumps(changed))
    assert fault in refusal(run, tmp_path)


@pytest.mark.parametrize(
    "curve",
    [
        {},
        {"test_error": [12.5]},
        {"iteration": [10, 20]},
        {"iteration": [1.5]},
        {"train_error": [-1]},
        {"rate": [None]},
        {"test_error": [True]},
    ],
)
def test_a_curve_has_columns_of_one_length(run, written, tmp_path, curve):
    changed = written | {"curve": written["curve"] | curve if len(curve) and "test_error" not in curve else curve}
    del changed["digest"]
    run.record_path(tmp_path).write_text(json.dumps(changed))
    assert "its curve is not what it must be" in refusal(run, tmp_path)


@pytest.mark.parametrize(
    "content, fault",
    [
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deep"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deep"),
        (b'{"test_error": NaN}', "NaN is no finite number"),
        (b'{"test_error": 1e999}', "1e999 is no finite number"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b" " * (soundness.MOST_BYTES + 1), "it has more than 16,777,216 bytes"),
        (b"null", "it is no JSON object"),
    ],
)
def test_what_is_hostile_is_refused(run, written, tmp_path, content, fault):
    run.record_path(tmp_path).write_bytes(content)
    assert fault in refusal(run, tmp_path)


def a_link(to):
    return lambda path: path.symlink_to(to)


@pytest.mark.parametrize(
    "make, fault",
    [
        (a_link("nowhere"), "No such file or directory"),
        (a_link("seed-0.json"), "Too many levels of symbolic links"),
        (a_link("/dev/zero"), "it is no file"),
        (Path.mkdir, "Is a directory|it is no file"),
        (os.mkfifo, "it is no file"),
    ],
    ids=["dangling", "looping", "a device", "a folder", "a pipe"],
)
def test_what_is_no_file_is_one_line_in_every_command(run, tmp_path, monkeypatch, capsys, make, fault):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    path = run.record_path()
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(UsageError, match=f"seed-0.json must be a run record in JSON; .*({fault})"):
        records.read(run)
    assert commands.state_of(run) == "unusable"
    commands.status("1")
    assert "1 unusable" in capsys.readouterr().out
    with pytest.raises(UsageError):
        commands.table("1", "smoke", depth=8, iterations=20)


def test_names_that_are_no_seeds_are_passed_over(run, written, tmp_path):
    folder = run.folder(tmp_path)
    for name in ("seed-01", "seed-٣", "seed-²", "seed-4294967296", "seed-99999999999999", "seed--1", "seed-1e3"):
        (folder / f"{name}.json").write_text("{}")
    assert run.seeds(tmp_path) == [0]
    for name in ("original@depth-08", "original@depth-٨", "original@width-" + "9" * 30):
        (folder.parent / name).mkdir()
    (row,) = paper.rows(1, ["original"])
    assert records.reductions(row, "smoke", tmp_path) == [run.reduction]
    assert summarise(row, "smoke", run.reduction, tmp_path).n == 1


def test_a_watched_run_has_a_record_of_a_watched_run(run, outcome, tmp_path):
    watched = replace(run, watched=True)
    records.write(watched, outcome(12.5), tmp_path)
    with pytest.raises(UsageError, match="watched-0.json .*it is of a run that was not watched"):
        records.read(watched, tmp_path)


def test_a_command_parses_each_record_once(run, written, tmp_path, monkeypatch):
    """However often a table comes back to it: what makes `table` of 5,000 records take seconds."""
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    for seed in range(1, 20):
        records.store(replace(run, seed=seed), sealed(written | {"seed": seed}))
    read, parse = [], soundness.parse
    monkeypatch.setattr(records, "SETTLED_SECONDS", 0)  # as if they had been written some time ago
    monkeypatch.setattr(soundness, "parse", lambda content: read.append(1) or parse(content))
    commands.status("1")
    tables.text(1, "smoke", Reduction(8, 20))  # where each row is compared with these
    assert len(read) == 20


def test_a_record_that_has_changed_is_read_again(run, written, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SETTLED_SECONDS", 0)
    records.read(run, tmp_path)["curve"].clear()  # a copy of one's own
    assert records.read(run, tmp_path) == written
    records.write_atomically(run.record_path(tmp_path), b"{}")
    refusal(run, tmp_path)


def sealed(record):
    record = {key: value for key, value in record.items() if key != "digest"}
    return record | {"digest": soundness.digest(record)}


def test_a_short_fuzz_finds_nothing(tmp_path):
    found = fuzz(tmp_path, seed=0, most=100)
    assert found.tried == 100 and 50 < found.refused < 100
