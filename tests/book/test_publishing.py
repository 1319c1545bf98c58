"""The site as it is served, printed and opened in Colab: what can be seen without a built site."""

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

from identity_mappings.errors import UsageError
from identity_mappings.pages.book import site

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import about  # noqa: E402
import accessible  # noqa: E402
import previews  # noqa: E402
import takeaway  # noqa: E402

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
    monkeypatch.setattr(site.rows, "write_all", lambda: None)
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


ADDRESS = "https://github.com/someone/something"


def buttons(page, address, tmp_path, executed=True):
    """{text: address} of the buttons that a page gets."""
    app = SimpleNamespace(outdir=tmp_path / "html")
    if executed:
        takeaway.executed(app, page).parent.mkdir(parents=True, exist_ok=True)
        takeaway.executed(app, page).write_text("{}")
    context = {"repository": address, "header_buttons": [], "pathto": lambda name, _: name}
    takeaway.add_buttons(app, page, "page.html", context, doctree="a page")
    return {button["text"]: button["url"] for button in context["header_buttons"]}


def test_a_published_chapter_opens_in_colab(tmp_path):
    found = buttons("analysis", ADDRESS, tmp_path)
    assert found["Colab"].endswith("/github/someone/something/blob/notebooks/chapters/analysis.ipynb")
    assert found["Notebook"] == "notebooks/chapters/analysis.ipynb"
    assert found["Feedback"].startswith(f"{ADDRESS}/issues/new?title=")


def test_a_tables_page_offers_a_row_of_the_table(tmp_path):
    assert re.fullmatch(r"notebooks/table-2/110-original-\w+.*\.ipynb", buttons("table-2", "", tmp_path)["Notebook"])


def test_without_an_address_nothing_leads_outside(tmp_path):
    assert set(buttons("analysis", "", tmp_path)) == {"Notebook"}
    assert buttons("glossary", "", tmp_path, executed=False) == {}


def test_a_page_of_text_has_no_notebook(tmp_path):
    assert set(buttons("glossary", ADDRESS, tmp_path, executed=False)) == {"Feedback"}


def test_the_footer_names_the_commit_and_links_it_where_it_can():
    assert about.footer("", COMMIT, "2026-01-02") == "<p>Built from commit 0123456789 of 2026-01-02</p>"
    assert f'href="{ADDRESS}/commit/{COMMIT}"' in about.footer(ADDRESS, COMMIT, "2026-01-02")
    assert about.footer(ADDRESS, "", "") == ""


def test_the_authors_are_those_of_the_citation_file():
    config = SimpleNamespace(html_theme_options={}, author="")
    about.sign(None, config)
    assert config.author and config.author in (ROOT / "CITATION.cff").read_text()


def test_a_description_is_the_first_paragraph_cut_at_a_word():
    from docutils.core import publish_doctree

    short = "A first paragraph that says what the page is about."
    assert about.first_sentences(publish_doctree(f"Title\n=====\n\nBack\n\n{short}\n\nMore.\n")) == short
    long = about.first_sentences(publish_doctree("word " * 100))
    assert long.endswith("word …") and len(long) <= about.DESCRIPTION + 2


def test_an_equation_has_the_papers_number():
    """Which its label says; every labelled equation of the book is one of the paper's nine, and none stands twice."""
    labels = [
        label
        for page in (ROOT / "book").glob("*.md")
        for label in re.findall(r"^:label: (.*)$", page.read_text(), re.M)
    ]
    assert sorted(map(previews.papers_number, labels)) == list(range(1, 10))


def test_a_table_of_marks_stays_a_table_on_a_phone():
    """And one of words becomes cards, each cell told its column's name."""
    head = "<table><thead><tr><th>who</th><th>1</th><th>2</th></tr></thead><tbody><tr><td>a name</td>"
    marks, words = (
        accessible.with_labels(f"{head}<td>{cell}</td><td></td></tr></tbody></table>") for cell in ("✓", "some words")
    )
    assert 'class="marks"' in marks and 'class="cards"' in words and 'data-label="1"' in words
