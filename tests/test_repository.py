"""The repository agrees with itself: requirements, CI and README, notebook pairs, committed records."""

import html
import json
import re
import subprocess
import tomllib
from pathlib import Path

import jupytext
import pytest
from conftest import known

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run
from identity_mappings.pages import readme
from identity_mappings.results.records import recipe_hash

ROOT = Path(__file__).resolve().parents[1]


def commands_in_readme():
    return re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.M)


def test_ci_runs_the_readmes_test_command():
    _, test_command = commands_in_readme()
    assert test_command in (ROOT / ".ci/run").read_text().splitlines()


def test_environment_and_pyproject_ask_for_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)}
    listed = set(re.findall(r"^      - (?!-e)(\S+)$", (ROOT / "environment.yml").read_text(), re.M))
    assert listed == wanted


def test_readme_says_what_the_records_say():
    """`invoke readme` would change nothing: not its blocks, nor what its pictures show."""
    text = (ROOT / "README.md").read_text()
    with readme.known_records(ROOT) as results:
        assert readme.written(text, results) == text
        shown = html.escape(readme.picture(results).alt)
    for name in readme.PAPERS:
        assert shown in readme.picture_path(ROOT, name).read_text()


def test_the_readme_speaks_of_the_records_that_git_knows(tmp_path):
    """Neither the smoke tier's, which every machine makes for itself, nor any that is not added yet."""
    added, made_here = tmp_path / "results/pocket/seed-0.json", tmp_path / "results/smoke/seed-0.json"
    for path in (added, made_here):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    with readme.known_records(tmp_path) as results:
        assert len(list(results.rglob("*.json"))) == 2  # an archive, without git
    for words in (["init", "-q"], ["add", "results/pocket"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    with readme.known_records(tmp_path) as results:
        assert [path.relative_to(results) for path in results.rglob("*.json")] == [Path("pocket/seed-0.json")]


def test_readme_is_two_screens_before_its_tree():
    before, _ = (ROOT / "README.md").read_text().split("## The tree")
    assert len(before.splitlines()) <= 90


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.parametrize("script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_notebook_pairs_agree(script):
    pair = [jupytext.read(path) for path in (script, script.with_suffix(".ipynb"))]
    text, notebook = ([(c.cell_type, c.source, c.metadata.get("tags")) for c in part.cells] for part in pair)
    assert text == notebook


def test_a_notebooks_packages_are_among_the_books():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["notebook"]) < set(extras["book"])


def test_committed_records_are_of_the_recipe_that_they_name():
    for path in known("seed-*"):
        record = json.loads(path.read_text())
        (row,) = paper.rows(record["table"], [record["row"]])
        run = Run(row, record["variant"], record["tier"], record["seed"], Reduction.parse(record["reduction"]))
        assert record["recipe_hash"] == recipe_hash(run.recipe)
        assert run.record_path(ROOT / "results") == path


def test_the_rows_that_the_workflows_run_are_there():
    text = "\n".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    named = re.findall(r"invoke reproduce --table (\d) --row (\S+)", text)
    assert {table for table, _ in named} == {"1", "2", "3", "4"}
    assert all(paper.rows(table, [row]) for table, row in named)
