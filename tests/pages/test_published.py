"""No address is a literal: links, buttons and notebooks name the repository that publishes, or none."""

import re
import subprocess
from pathlib import Path

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.pages import notebooks, published

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository in which the library believes itself; gives a function that runs git in it."""
    monkeypatch.setattr(published, "ROOT", tmp_path)
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "IDENTITY_MAPPINGS_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    published._git.cache_clear()

    def git(*words):
        published._git.cache_clear()
        return subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)

    yield git
    published._git.cache_clear()


def test_without_a_repository_there_is_no_address(repository):
    assert (published.repository(), published.commit(), published.date()) == ("", "", "")
    assert published.colab("table-1/original-smoke.ipynb") == ""


def test_the_address_is_gits_origin_and_before_it_the_workflows(repository, monkeypatch):
    repository("init", "-q")
    assert published.repository() == ""
    repository("remote", "add", "origin", "git@github.com:someone/something.git")
    assert published.repository() == "https://github.com/someone/something"
    monkeypatch.setenv("GITHUB_REPOSITORY", "another/place")
    assert published.repository() == "https://github.com/another/place"


@pytest.mark.parametrize(
    "remote, address",
    [
        ("https://github.com/someone/something.git", "https://github.com/someone/something"),
        ("https://user:secret@github.com/someone/something", "https://github.com/someone/something"),
        ("ssh://git@gitlab.com/a/b/c.git", "https://gitlab.com/a/b/c"),
        ("/home/me/companion", ""),
        ("file:///home/me/companion", ""),
        ("../companion.git", ""),
        ("https://github.com/", ""),
        ("", ""),
    ],
)
def test_where_a_browser_finds_a_remote(remote, address):
    assert published.web_address(remote) == address


def test_the_commit_is_the_workflows_else_the_checkouts(repository, monkeypatch):
    repository("init", "-q")
    assert published.commit() == ""
    repository("-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "--allow-empty", "-m", "one")
    published._git.cache_clear()
    assert re.fullmatch("[0-9a-f]{40}", published.commit()) and re.fullmatch(r"\d{4}-\d\d-\d\d", published.date())
    monkeypatch.setenv("IDENTITY_MAPPINGS_COMMIT", COMMIT)
    assert published.commit() == COMMIT


def test_colab_reads_github_alone():
    name = "table-1/original-smoke.ipynb"
    opened = published.colab(name, "https://github.com/someone/something")
    assert opened == f"https://colab.research.google.com/github/someone/something/blob/notebooks/{name}"
    assert published.colab(name, "https://gitlab.com/someone/something") == published.colab(name, "") == ""


def test_a_records_commit_is_a_link_where_the_address_is_known():
    assert published.commit_link(COMMIT, "https://github.com/a/b") == (
        f"[0123456789](https://github.com/a/b/commit/{COMMIT})"
    )
    assert published.commit_link(f"{COMMIT}+changes", "") == "0123456789 +changes"
    assert published.commit_link(None, "https://github.com/a/b") == "unknown"


def test_no_source_names_a_repository_that_may_be_somebody_elses():
    """Of this project itself: other repositories that the book cites are told by their own names."""
    files = [*ROOT.glob("*.*"), *ROOT.glob("notebooks/*"), *ROOT.glob("book/*.md"), *ROOT.glob("book/_ext/*.py")]
    files += [*ROOT.glob("pkg/**/*.py"), *ROOT.glob(".github/**/*.yml")]
    own = re.compile(r"github\.com/[\w.-]*identity-mappings[\w.-]*/|git\+https://", re.I)
    assert [path.name for path in files if path.is_file() and own.search(path.read_text())] == []


@pytest.mark.parametrize("table", paper.TABLES)
def test_a_filled_notebook_runs_its_row(table):
    row = paper.rows(table)[-1]
    made = notebooks.filled(row, "quick", Reduction(depth=20), seeds=3)
    (cell,) = [cell for cell in made.cells if "parameters" in cell.metadata.get("tags", ())]
    found = {}
    exec(cell.source, found)  # the parameters alone
    assert {key: found[key] for key in ("table", "row", "tier", "seeds", "reduction")} == {
        "table": table, "row": row.id, "tier": "quick", "seeds": 3, "reduction": "depth-20",
    }  # fmt: skip
    assert notebooks.filled_name(row, "quick", Reduction(depth=20)) == f"table-{table}/{row.id}-quick-depth-20.ipynb"


def test_a_notebook_installs_the_commit_that_published_it_or_nothing():
    (row,) = paper.rows(1, ["original"])
    cells = len(notebooks.filled(row, "smoke").cells)
    with_cell = notebooks.with_install(notebooks.filled(row, "smoke"), "https://github.com/a/b", COMMIT)
    assert len(with_cell.cells) == cells + 1 and f"git+https://github.com/a/b@{COMMIT}" in with_cell.cells[1].source
    compile(with_cell.cells[1].source, "install", "exec")
    for address, commit in (("", COMMIT), ("https://github.com/a/b", "")):
        assert len(notebooks.with_install(notebooks.filled(row, "smoke"), address, commit).cells) == cells
