"""A button on each table's pages that opens the table's notebook in Colab, as it is in the commit that is built.

The executed copies are not in the repository, so that the theme's own button, which leads to a page's own file, cannot
open them. Outside a checkout, where no commit is known, there is no button.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlparse

ROOT = Path(__file__).resolve().parents[2]
PAGE = re.compile(r"(?:runs/[^/]+/)?table-(\d+)(?:/[^/]+)?")  # table-1, runs/smoke/table-1/original


def setup(app):
    app.connect("config-inited", note)
    app.connect("html-page-context", add_button, priority=510)  # after the theme has begun its list of buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def note(app, config):
    """Note where the notebooks are; as configuration, so that Sphinx writes all pages again at another commit."""
    config.html_context["notebooks_in_colab"] = folder(repository(), commit())


def add_button(app, pagename, templatename, context, doctree):
    """Add the button to the page's header."""
    notebooks, page = context["notebooks_in_colab"], PAGE.fullmatch(pagename)
    if notebooks and page and (ROOT / "notebooks" / f"table_{page[1]}.ipynb").exists():
        context["header_buttons"].append(
            {
                "type": "link",
                "url": f"{notebooks}/table_{page[1]}.ipynb",
                "text": "Colab",
                "tooltip": f"Open the notebook of Table {page[1]} in Colab",
                "icon": "_static/images/logo_colab.png",
                "label": "colab",
            }
        )


def folder(address, revision):
    """Where Colab opens the notebooks; empty where it cannot: it reads commits on GitHub."""
    if urlparse(address).netloc != "github.com" or not revision:
        return ""
    return f"https://colab.research.google.com/github{urlparse(address).path}/blob/{revision}/notebooks"


def repository():
    """The repository's address, which pyproject.toml alone holds."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def commit():
    """The commit that is built: $IDENTITY_MAPPINGS_COMMIT, else the checkout's; empty where there is none."""
    if chosen := os.environ.get("IDENTITY_MAPPINGS_COMMIT"):
        return chosen
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""
    asked = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, text=True
    )
    return asked.stdout.strip()  # nothing before the first commit
