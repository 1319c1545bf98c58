"""What a reader takes away from a page: its notebook, to download or to open in Colab, and a way to say what is wrong.

The notebooks lie beside the pages, in the site's `notebooks` folder: one a row and tier with its parameters filled in,
and every executed chapter. Colab opens them from the branch to which the workflow that publishes the site writes that
folder; outside a repository on GitHub there is no such button.
"""

from pathlib import Path
from urllib.parse import urlencode

import nbformat

from identity_mappings.experiments import paper
from identity_mappings.pages import notebooks, published
from identity_mappings.pages.book import evidence


def setup(app):
    app.connect("config-inited", note)
    app.connect("html-page-context", add_buttons, priority=510)  # after the theme has begun its list of buttons
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def note(app, config):
    """Note address and commit; as configuration, so that Sphinx writes all pages again at another commit."""
    config.html_context |= {"repository": published.repository(), "commit": published.commit()}


def notebook_of(page):
    """The name of a page's notebook in the site's folder: a table's is its first row's, a chapter's its own."""
    table = page.removeprefix("table-")
    if page.startswith("table-") and table.isdigit() and int(table) in paper.TABLES:
        row = paper.rows(int(table))[0]
        best = evidence.best(row)
        return notebooks.filled_name(row, *((best.tier, best.reduction) if best else ("smoke",)))
    return f"chapters/{page}.ipynb"


def executed(app, page):
    """Where the build leaves the executed notebook of a page; it is there for pages with cells only."""
    return Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"


def add_buttons(app, pagename, templatename, context, doctree):
    """Add the page's buttons to its header."""
    buttons, address = context.get("header_buttons"), context.get("repository", "")
    if buttons is None or doctree is None or pagename.startswith("rows/"):
        return
    if executed(app, pagename).exists():
        name = notebook_of(pagename)
        if colab := published.colab(name, address):
            icon = "_static/images/logo_colab.png"
            buttons.append(_button(colab, "Colab", "Open this page's notebook in Colab", "colab", icon))
        local = context["pathto"](f"notebooks/{name}", 1)
        buttons.append(_button(local, "Notebook", "Download this page as a notebook", "notebook", "fas fa-file-code"))
    if address:
        asked = urlencode({"title": f"The book, {pagename}: "})
        said = "Say what is wrong or unclear on this page"
        buttons.append(_button(f"{address}/issues/new?{asked}", "Feedback", said, "feedback", "fas fa-comment"))


def _button(url, text, tooltip, label, icon):
    return {"type": "link", "url": url, "text": text, "tooltip": tooltip, "label": label, "icon": icon}


def write(app, exception):
    """Write the notebooks beside the pages."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    address, commit = published.repository(), published.commit()
    for row in (row for table in paper.TABLES for row in paper.rows(table)):
        for each in evidence.of_row(row):
            _write(folder, notebooks.filled_name(row, each.tier, each.reduction), _of(row, each), address, commit)
        if not evidence.of_row(row):
            _write(folder, notebooks.filled_name(row, "smoke"), notebooks.filled(row, "smoke"), address, commit)
    for page in app.env.found_docs:
        if executed(app, page).exists() and notebook_of(page).startswith("chapters/"):
            notebook = nbformat.read(executed(app, page), as_version=4)
            _write(folder, notebook_of(page), notebook, address, commit)


def _of(row, each):
    return notebooks.filled(row, each.tier, each.reduction, each.n)


def _write(folder, name, notebook, address, commit):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebooks.with_install(notebook, address, commit), path)
