"""Records on disk: written, found again, refused."""

import json
import subprocess
from dataclasses import replace

import pytest
from conftest import small_run

from identity_mappings import UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.pages import show
from identity_mappings.results import records
from identity_mappings.results.statistics import summarise


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
    assert summarise(row, "smoke", run.reduction, tmp_path).errors == (9.0,)
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
    shown = show.precisions(tmp_path).data.splitlines()
    header, _, *lines = (line for line in shown if line.startswith("|"))
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
