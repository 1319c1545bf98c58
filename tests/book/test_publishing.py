"""The site as it is served, printed and opened in Colab: what can be seen without a built site."""

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from identity_mappings.errors import UsageError
from identity_mappings.pages import site

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import colab  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"^the port must be free; {port} is not .*--port$"):
            site.server(port)


def test_serving_until_ctrl_c(tmp_path, monkeypatch, capsys):
    (tmp_path / "index.html").write_text("the site")
    server = site.server(0, tmp_path)
    opened, read, serving = [], [], server.serve_forever
    monkeypatch.setattr(site.webbrowser, "open", opened.append)

    def interrupted():
        reader = threading.Thread(target=lambda: (read.append(urlopen(opened[0]).read()), server.shutdown()))
        reader.start()
        serving()
        reader.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve_forever", interrupted)
    site.serve(server)
    assert read == [b"the site"] and opened[0].startswith("http://127.0.0.1:")
    assert capsys.readouterr().out == f"the site is at {opened[0]} until Ctrl-C\n\n"


def test_a_pdf_without_a_browser_is_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="^the PDF needs Chromium or Chrome; none on the PATH: install one$"):
        site.printer()


def test_a_build_is_not_built_upon_one_that_failed(tmp_path, monkeypatch):
    left = tmp_path / "_build" / ".doctrees" / "left"
    monkeypatch.setattr(site, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(site, "FINISHED", left.with_name("finished"))
    monkeypatch.setattr(site.notebooks, "execute_all", lambda: None)
    found, status = [], iter([1, 0, 0])

    def jupyter_book(*_):
        found.append(left.exists())
        left.parent.mkdir(parents=True, exist_ok=True)
        left.touch()
        return subprocess.CompletedProcess([], next(status))

    monkeypatch.setattr(site.subprocess, "run", jupyter_book)
    with pytest.raises(UsageError, match="without a warning"):
        site.build()
    site.build()
    site.build()
    assert found == [False, False, True]


def test_colab_opens_the_committed_notebooks():
    folder = colab.folder("https://github.com/someone/something", COMMIT)
    assert folder == f"https://colab.research.google.com/github/someone/something/blob/{COMMIT}/notebooks"
    assert colab.folder("https://elsewhere.org/someone/something", COMMIT) == ""
    assert colab.folder("https://github.com/someone/something", "") == ""


@pytest.mark.parametrize("page", ["table-2", "runs/smoke/table-2/164-original-at-depth-20"])
def test_a_tables_pages_have_the_button(page):
    context = {"notebooks_in_colab": "folder", "header_buttons": []}
    colab.add_button(None, page, "page.html", context, None)
    (button,) = context["header_buttons"]
    assert button["url"] == "folder/table_2.ipynb"
    assert (ROOT / "notebooks" / button["url"].rpartition("/")[2]).exists()


@pytest.mark.parametrize(
    "page, folder", [("units", "folder"), ("genindex", "folder"), ("table-99", "folder"), ("table-2", "")]
)
def test_other_pages_have_none(page, folder):
    context = {"notebooks_in_colab": folder, "header_buttons": []}
    colab.add_button(None, page, "page.html", context, None)
    assert context["header_buttons"] == []


def test_the_commit_is_the_workflows_else_the_checkouts(monkeypatch, tmp_path):
    monkeypatch.setenv("IDENTITY_MAPPINGS_COMMIT", COMMIT)
    assert colab.commit() == COMMIT
    monkeypatch.delenv("IDENTITY_MAPPINGS_COMMIT")
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert colab.commit() == ""  # a folder without git
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert colab.commit() == ""  # nor a commit
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    assert re.fullmatch("[0-9a-f]{40}", colab.commit())
