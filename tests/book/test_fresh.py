"""A page and a notebook are executed again when anything that they show has changed, and only then."""

import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest
from sphinx.application import Sphinx

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run
from identity_mappings.pages import notebooks
from identity_mappings.results import records

BOOK = Path(__file__).resolve().parents[2] / "book"
sys.path.insert(0, str(BOOK / "_ext"))
import fresh  # noqa: E402

RECORD = "results/quick/table-1/original/seed-0.json"
FILES = {
    "pkg/library.py": "one",
    RECORD: "one",
    "book/rows/table-1/original.md": "---\norphan: true\n---\n\nRow\n===\n",
    "book/tables.md": "Tables\n======\n",
    "book/units.md": "Units\n=====\n",
    "book/intro.md": "Intro\n=====\n\n```{toctree}\ntables\nunits\n```\n",
    "book/_static/book.css": "one",
    "book/_ext/takeaway.py": "one",
    "book/bench/two.json": "one",
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in miniature, with the extension's patterns pointed at it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def moved(patterns):
        return tuple((tmp_path / folder.relative_to(fresh.ROOT), pattern) for folder, pattern in patterns)

    monkeypatch.setattr(fresh, "READS", {name: moved(patterns) for name, patterns in fresh.READS.items()})
    for name in ("LIBRARY", "RECORDS", "WRITING"):
        monkeypatch.setattr(fresh, name, moved(getattr(fresh, name)))
    return tmp_path


def built(repository):
    """(pages read, pages written) by a build of the repository's book."""
    book, read, written = repository / "book", [], []
    settings = {"extensions": ["myst_parser", "fresh"], "root_doc": "intro", "exclude_patterns": ["_build"]}
    app = Sphinx(
        book,
        None,
        book / "_build/html",
        book / "_build/kept",
        "html",
        confoverrides=settings,
        status=None,
        warning=None,
    )
    app.connect("source-read", lambda app, name, source: read.append(name))
    app.connect("html-page-context", lambda app, name, template, context, doctree: doctree and written.append(name))
    app.build()
    return sorted(read), sorted(written)


ROW = "rows/table-1/original"
EXECUTED = ["intro", "tables", "units"]  # pages whose cells read what has changed
ALL = ["intro", ROW, "tables", "units"]


def test_a_build_after_which_nothing_changed(repository):
    assert built(repository) == (ALL, ALL)
    assert built(repository) == ([], [])


@pytest.mark.parametrize(
    "change, read",
    [
        ("pkg/library.py", EXECUTED),
        ("pkg/new.py", EXECUTED),
        (RECORD, ["intro", "tables"]),
        (RECORD.replace("seed-0", "seed-1"), ["intro", "tables"]),
        (RECORD.replace("seed-0", "watched-0"), ["intro", "tables"]),
        ("book/bench/one.json", ["intro", "tables"]),
        ("book/rows/table-1/original.md", [ROW]),
        ("book/units.md", ["units"]),
        ("results/quick/table-1/original/seed-0.checkpoint", []),
        ("README.md", []),
    ],
)
def test_what_is_read_again(repository, change, read):
    built(repository)
    (repository / change).write_text("Two\n===\n")
    os.utime(repository / change, (0, 0))  # as old as may be: a copy keeps the time of what it is a copy of
    assert built(repository)[0] == read


def test_a_record_that_is_gone(repository):
    built(repository)
    (repository / RECORD).unlink()
    assert built(repository)[0] == ["intro", "tables"]


def test_styles_are_written_without_executing_a_page(repository):
    built(repository)
    (repository / "book/_static/book.css").write_text("two")
    assert built(repository) == ([], ALL)


def test_a_new_title_is_in_every_pages_list(repository):
    built(repository)
    (repository / "book/units.md").write_text("Other\n=====\n")
    assert built(repository) == (["units"], ALL)


def test_a_removed_page_leaves_no_file(repository):
    built(repository)
    (repository / "book/units.md").unlink()
    built(repository)
    assert (repository / "book/_build/html/tables.html").exists()
    assert not (repository / "book/_build/html/units.html").exists()


def test_a_package_counts(repository, monkeypatch):
    built(repository)
    monkeypatch.setattr(fresh, "packages", lambda: b"torch 99")
    assert built(repository)[0] == EXECUTED


def test_the_books_packages_count_and_no_others():
    """A page is not executed anew for a package that only the tests use."""
    named = fresh.packages().decode()
    assert all(f"'{name}'" in named for name in ("torch", "matplotlib", "jupyter-book", "nbclient"))
    assert not any(f"'{name}'" in named for name in ("ruff", "hypothesis", "playwright"))


PACKAGE = BOOK.parent / "pkg" / "identity_mappings"


def modules(code, folder=PACKAGE):
    """The library's modules, and the book's, that Python code names in its imports, wherever they stand in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (BOOK / f"{name.name}.py" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = [PACKAGE, folder, *folder.parents][node.level]
            names = (node.module or "").removeprefix("identity_mappings").strip(".").split(".")
            found = start.joinpath(*names)
            yield from (found.with_suffix(".py"), *(found / f"{name.name}.py" for name in node.names))


def reached(cells):
    """Every module that the cells of a page import, and what those import in turn."""
    found, waiting = set(), list(modules(cells))
    while waiting:
        path = waiting.pop()
        if path not in found and path.exists():
            found.add(path)
            waiting += modules(path.read_text(), path.parent)
    return {path.relative_to(BOOK.parent).as_posix() for path in found}


@pytest.mark.parametrize("page", sorted(BOOK.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_reads_records_if_its_modules_do(page):
    options = r"(?:---\n.*?\n---\n|(?::[^\n]*\n)*)"
    cells = "\n".join(re.findall(rf"```\{{code-cell\}}[^\n]*\n{options}(.*?)```", page.read_text(), flags=re.S))
    patterns = fresh.READS.get(page.stem, fresh.RECORDS)
    assert ("pkg/identity_mappings/results/records.py" in reached(cells)) == (set(fresh.RECORDS) <= set(patterns))


def test_modules_are_followed():
    assert "book/appendix.py" in reached("import appendix")
    assert "pkg/identity_mappings/results/records.py" in reached("from identity_mappings.pages import show")
    assert "pkg/identity_mappings/results/records.py" in reached("from identity_mappings.training.loop import train")
    assert reached("import torch") == set()


# --- the rows' notebooks, executed before the pages

CUT = Reduction(depth=20, iterations=400)
(ROW,) = paper.rows(1, ["plain"])


@pytest.fixture
def executed(tmp_path, monkeypatch, outcome):
    """Makes the copies that are due, with nothing executed; returns how many those were."""
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "runs")
    records.write(Run(ROW, "", "quick", 0, CUT), outcome(9.0), tmp_path)

    def execute(seeds=(0,)):
        due = list(notebooks._waiting(1, ["plain"], "quick", list(seeds), CUT, tmp_path))
        for _, target, _, inputs in due:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps({"metadata": {notebooks.NOTE: inputs}}))
        return len(due)

    execute.results = tmp_path
    return execute


def test_a_notebook_is_executed_once(executed):
    assert [executed(), executed()] == [1, 0]


@pytest.mark.parametrize("spoil", [lambda b: b[:-5], lambda b: b"", lambda b: b"[]", lambda b: b"\xff" + b])
def test_a_copy_that_cannot_be_read_is_made_anew(executed, tmp_path, spoil):
    executed()
    (copy,) = (tmp_path / "runs").rglob("*.ipynb")
    copy.write_bytes(spoil(copy.read_bytes()))
    assert [executed(), executed()] == [1, 0]


def test_a_notebook_follows_its_record_however_old(executed, outcome):
    executed()
    run = Run(ROW, "", "quick", 0, CUT)
    records.write(run, outcome(8.0), executed.results)
    os.utime(run.record_path(executed.results), (0, 0))
    assert executed() == 1


def test_a_notebook_follows_its_baseline(executed, outcome):
    executed()
    (baseline,) = paper.rows(1, [ROW.baseline])
    records.write(Run(baseline, "", "quick", 0, CUT), outcome(8.0), executed.results)
    assert executed() == 1


def test_a_notebook_follows_the_library(executed, monkeypatch, tmp_path):
    executed()
    (tmp_path / "library").mkdir()
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "library" / "pages" / "notebooks.py"))
    assert executed() == 1


def test_a_notebook_waits_for_all_of_its_runs(executed):
    assert executed(seeds=(0, 1)) == 0


@pytest.mark.parametrize("content", [b"", b'{"metadata": {', b"{}", b"[]", b"null", b'{"metadata": null}', b"\xff\xfe"])
def test_a_copy_that_was_cut_is_made_again(tmp_path, content):
    path = tmp_path / "cut.ipynb"
    assert notebooks._noted(path) is None
    path.write_bytes(content)
    assert notebooks._noted(path) is None
