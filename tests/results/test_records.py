"""Records on disk and what a row's runs add up to."""

import json
import math
import subprocess
from dataclasses import replace

import pytest
from conftest import small_run

from identity_mappings import UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import show
from identity_mappings.results import records
from identity_mappings.results.records import Summary

INF = math.inf


def test_round_trip(run, outcome, tmp_path):
    assert records.read(run, tmp_path) is None
    written = records.write(run, outcome(12.5), tmp_path)
    assert records.read(run, tmp_path) == written
    assert (written["row"], written["seed"], written["test_error"]) == ("original", 0, 12.5)
    assert set(records.numbers(written)) < set(written)
    assert sorted(p.name for p in run.folder(tmp_path).iterdir()) == ["seed-0.json"]


def test_where_a_record_lies(run, tmp_path):
    place = "smoke/table-1/original@depth-8-iterations-20/seed-0.json"
    assert run.record_path(tmp_path) == tmp_path / place
    assert replace(run, reduction=Reduction()).folder(tmp_path) == tmp_path / "smoke/table-1/original"


def test_a_record_of_another_recipe_is_refused_and_kept(run, outcome, tmp_path):
    other = small_run(1, "original", iterations=40)
    records.write(other, outcome(12.5), tmp_path)
    path = run.record_path(tmp_path)
    path.parent.mkdir(parents=True)
    other.record_path(tmp_path).rename(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="of another recipe: expected .* got .*nothing was overwritten"):
        records.read(run, tmp_path)
    assert path.read_bytes() == before


def test_a_record_of_another_seed_is_refused_and_kept(run, outcome, tmp_path):
    records.write(run, outcome(12.5), tmp_path)
    other = replace(run, seed=1)
    run.record_path(tmp_path).rename(other.record_path(tmp_path))
    before = other.record_path(tmp_path).read_bytes()
    with pytest.raises(UsageError, match="seed-1.json is the record of seed 0; expected seed 1: move it away"):
        records.read(other, tmp_path)
    assert records.peek(other, tmp_path) is None
    assert other.record_path(tmp_path).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b'{"seed": 0', b"[]", b"{}", b"\xff\xfe", b"null"])
def test_a_damaged_record_is_named(run, tmp_path, content):
    path = run.record_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="seed-0.json must be a run record in JSON.*move it away"):
        records.read(run, tmp_path)


def test_the_hash_tells_recipes_apart():
    recipes = {row.recipe(v) for row in paper.rows() for v in row.networks}
    assert len({records.recipe_hash(recipe) for recipe in recipes}) == len(recipes)
    assert json.loads(json.dumps(small_run(1, "dropout").recipe.to_json())) == small_run(1, "dropout").recipe.to_json()


def result(id, *errors, tier="paper", table=1):
    (row,) = paper.rows(table, [id])
    return Summary(row, tier, tuple(sorted(errors)), ())


@pytest.mark.parametrize(
    "summary, verdict",
    [
        (result("original"), "not run"),
        (result("original", 6.5, 6.6, 6.61, 6.65, 6.7), "consistent"),
        (result("original", 7.5, 7.6, 7.61, 7.65, 7.7), "differs"),
        (result("original", 5.5, 5.6, 5.61, 5.65, 5.7), "differs"),
        (result("original", 6.6), "underpowered (n=1: no interval)"),
        (result("original", 5.0, 6.0, 6.61, 8.0, 9.0), "underpowered (+0.00 ± 3.50)"),
        (result("original", 6.6, INF, INF), "differs"),
        (result("plain", 35.0), "consistent"),
        (result("plain", INF), "consistent"),
        (result("plain", 9.0), "differs"),
    ],
)
def test_verdicts_against_the_paper(summary, verdict):
    assert summary.verdict() == verdict


BASE = result("original", 5.0, 5.2, 5.4, tier="smoke")


@pytest.mark.parametrize(
    "summary, baseline, verdict",
    [
        (BASE, None, "baseline"),
        (result("dropout", 30.0, tier="smoke"), BASE, "fails: seen"),
        (result("dropout", 8.0, tier="smoke"), BASE, "fails: not seen"),
        (
            result("dropout", 60.0, tier="smoke"),
            result("original", 54.0, tier="smoke"),
            "fails, but so does original: says nothing",
        ),
        (result("conv-1x1", 8.0, tier="smoke"), BASE, "worse than original: seen"),
        (result("conv-1x1", 4.0, tier="smoke"), BASE, "worse than original: not seen"),
        (result("conv-1x1", INF, tier="smoke"), BASE, "worse than original: seen"),
        (result("conv-1x1", 4.0, tier="smoke"), None, "worse than original: baseline not run"),
        (result("shortcut-gating-6", 7.1, tier="smoke"), BASE, "near original: seen"),
        (result("shortcut-gating-6", 7.3, tier="smoke"), BASE, "near original: not seen"),
        (result("dropout", tier="smoke"), BASE, "not run"),
    ],
)
def test_verdicts_of_a_small_tier(summary, baseline, verdict):
    assert summary.verdict(baseline) == verdict


def test_better_is_below_the_baseline():
    base = result("110-original", 6.0, tier="smoke", table=2)
    for error, seen in ((5.0, "seen"), (7.0, "not seen")):
        row = result("110-full-pre-activation", error, tier="smoke", table=2)
        assert row.verdict(base) == f"better than 110-original: {seen}"


@pytest.mark.parametrize(
    "errors, median, printed",
    [
        ((), None, "not run"),
        ((7.0,), 7.0, "7.00, n = 1"),
        ((6.0, 8.0), 7.0, "7.00 (7.00 ± 1.41), n = 2"),
        ((6.0, 7.0, INF), 7.0, "7.00, n = 3 (1 diverged)"),
        ((6.0, INF), INF, "fail, n = 2 (1 diverged)"),
        ((INF, INF), INF, "fail, n = 2 (2 diverged)"),
        ((25.0,), 25.0, "fail: 25.00, n = 1"),
    ],
)
def test_medians_and_how_they_are_printed(errors, median, printed):
    summary = result("original", *errors)
    assert summary.median == median
    assert str(summary) == printed


def test_half_width_of_five_runs():
    summary = result("original", 1.0, 2.0, 3.0, 4.0, 5.0)
    assert summary.half_width == pytest.approx(2.776 * math.sqrt(2.5) * math.sqrt(math.pi / 5))


def test_a_summary_counts_the_records_of_all_variants(outcome, tmp_path):
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    cut = Reduction(8, 20)
    for variant, error in (("bias-0", 50.0), ("bias-5", 30.0)):
        records.write(Run(*place(row, variant), "smoke", 0, cut), outcome(error), tmp_path)
    records.write(Run(*place(row, "bias-5"), "smoke", 1, cut), outcome(None, "diverged"), tmp_path)
    summary = records.summary(row, "smoke", cut, tmp_path)
    assert summary.errors == (30.0, 50.0, INF)
    assert records.summary(row, "smoke", results=tmp_path).n == 0
    assert records.reductions(row, "smoke", tmp_path) == [cut]


def test_tables_share_the_record_of_a_shared_recipe(run, outcome, tmp_path):
    records.write(run, outcome(9.0), tmp_path)
    (row,) = paper.rows(2, ["110-original"])
    assert records.summary(row, "smoke", run.reduction, tmp_path).errors == (9.0,)


def test_only_table_1_calls_an_error_above_20_percent_a_failure():
    (row,) = paper.rows(3, ["cifar100-164-original"])
    errors = (25.0, 25.1, 25.16, 25.2, 25.3)
    found = records.Summary(row, "paper", errors, ({},) * 5)
    assert not found.fails
    assert found.verdict() == "consistent"
    assert "fail" not in found.error()


def test_stray_files_in_the_results_folder_are_passed_over(run, outcome, tmp_path):
    records.write(run, outcome(9.0), tmp_path)
    folder = run.folder(tmp_path)
    strays = ("notes.txt", "seed-x.json", "seed-1.json.partial", "seed-.json", "seed-2.json~", "seed-3 (copy).json")
    for name in strays:
        (folder / name).write_text("not a record")
    for name in (
        "original@depth",
        "original@depth-8-copy",
        "original@",
        "original@-iterations-5",
        "original@old.zip",
        "other",
    ):
        (folder.parent / name).mkdir()
    (folder.parent / "original@iterations-5.txt").touch()
    assert run.seeds(tmp_path) == [0]
    (row,) = paper.rows(1, ["original"])
    assert [each.seed for each in records.runs_of(row, "smoke", run.reduction, tmp_path)] == [0]
    assert records.summary(row, "smoke", run.reduction, tmp_path).errors == (9.0,)
    assert records.reductions(row, "smoke", tmp_path) == [run.reduction]


def test_seeds_are_listed_by_number(run, tmp_path):
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    for name in ("seed-10.json", "seed-2.checkpoint", "seed-2.json", "seed-30.lock"):
        (folder / name).touch()
    assert run.seeds(tmp_path) == [2, 10, 30]
    assert run.seeds(tmp_path, (".json",)) == [2, 10]


def test_a_page_shows_rows_by_precision(outcome, tmp_path):
    """Records in a folder for each precision; a row that has none in one of them says so there."""
    assert show.precisions(tmp_path).data == "Not measured."
    for precision, id, seed, error in (
        ("fp32", "110-original", 0, 12.5),
        ("fp32", "110-original", 1, 14.5),
        ("bf16-skip-fp32", "110-original", 0, 13.5),
        ("bf16", "110-full-pre-activation", 0, 2.5),
    ):
        records.write(small_run(2, id, seed=seed), outcome(error), tmp_path / precision)
    header, _, *lines = show.precisions(tmp_path).data.splitlines()
    assert header.endswith("| `fp32` | `bf16` | `bf16-skip-fp32` |")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:2]]
    assert [line[0] for line in cells] == ["ResNet-110, original", "ResNet-110, full pre-activation"]
    assert cells[0][1] == "smoke tier, reduced to 8 layers, 20 iterations"
    assert cells[0][2].startswith("13.50 ") and cells[0][2].endswith("n = 2") and cells[0][3] == "not run"
    assert cells[0][4].startswith("13.50") and cells[0][4].endswith("n = 1")
    assert cells[1][2] == "not run" and cells[1][3].startswith("2.50")
    assert "| ResNet-110, original | not run | not run |" in lines


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The library as pip leaves it in a virtual environment that lies in a repository of its user's."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    site_packages = tmp_path / "venv" / "site-packages"
    about = site_packages / "identity_mappings-0.1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: identity-mappings\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(site_packages)
    monkeypatch.setattr(records, "__file__", str(site_packages / "identity_mappings" / "results" / "records.py"))
    monkeypatch.delenv("IDENTITY_MAPPINGS_COMMIT", raising=False)
    return about


@pytest.mark.parametrize(
    "source, commit",
    [
        ({"url": "https://example.org/r.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}, "0123abc"),
        ({"url": "file:///a/folder", "dir_info": {"editable": True}}, None),
        (None, None),
    ],
)
def test_an_installed_library_has_the_commit_that_pip_took_it_from(installed, source, commit):
    if source:
        (installed / "direct_url.json").write_text(json.dumps(source))
    assert records.commit.__wrapped__() == commit


def test_a_copy_without_git_takes_its_commit_from_the_environment(installed, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_COMMIT", "4567def")
    assert records.commit.__wrapped__() == "4567def"
