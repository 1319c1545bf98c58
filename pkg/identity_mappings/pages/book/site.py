"""The site: building it, showing it in a browser on this machine, printing it as a PDF."""

import shutil
import subprocess
import sys
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ...errors import UsageError
from .. import notebooks
from . import rows

BOOK = notebooks.ROOT / "book"
BUILD = BOOK / "_build"
SITE, PDF = BUILD / "html", BUILD / "pdf" / "identity-mappings.pdf"
KEPT = BUILD / ".doctrees"  # what Sphinx keeps of each page, so that the next build can leave it as it is
FINISHED = KEPT / "finished"

# What is folded on a screen and belongs on paper: the tables of the other tiers, and the solutions of exercises.
UNFOLD = """document.querySelectorAll("details.sd-dropdown, .tag_solution details")
  .forEach((each) => { each.open = true; })"""
FOOTER = '<p style="width: 100%; text-align: center; font-size: 8px"><span class="pageNumber"></span></p>'


def build():
    """Write the rows' pages, execute the pages that have changed and build the site; a warning is an error.

    Sphinx warns of a page only when it reads or writes it. A build that failed or was stopped is therefore not built
    upon, or its warnings would be forgotten: the next one starts anew.
    """
    rows.write_all()
    if not FINISHED.exists():
        shutil.rmtree(BUILD, ignore_errors=True)
    _sphinx("html")


def _sphinx(builder):
    """Run one of Jupyter Book's builders; what it leaves is built upon only after it has ended well."""
    FINISHED.unlink(missing_ok=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going"]
    ended = subprocess.run([*command, "--builder", builder, BOOK])
    if ended.returncode:
        raise UsageError(f"jupyter-book must end without a warning; it ended with {ended.returncode}: see above")
    FINISHED.touch()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """No line for each file that the browser asks for."""


def server(port, site=SITE):
    """An HTTP server of the site, for this machine alone. Raises UsageError where the port is taken."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=site))
    except OSError as error:
        raise UsageError(f"the port must be free; {port} is not ({error.strerror}): give another with --port") from None


def serve(server):
    """Open the site in the browser and serve it until Ctrl-C."""
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"the site is at {address} until Ctrl-C", flush=True)
    webbrowser.open(address)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def chromium():
    """The path of a Chromium or Chrome on this machine, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def printer():
    """What opens pages in a browser to print them: Playwright's module. Raises UsageError where a part is missing."""
    if chromium() is None:
        raise UsageError("the PDF needs Chromium or Chrome; none on the PATH: install one")
    try:
        from playwright import sync_api
    except ImportError:
        raise UsageError("the PDF needs the package playwright; not installed: pip install playwright") from None
    return sync_api


def print_pdf(sync_api):
    """Write all pages into one PDF, as a browser prints them: curves as still pictures, equations set."""
    _sphinx("singlehtml")
    PDF.parent.mkdir(exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto((BUILD / "singlehtml" / "intro.html").as_uri(), wait_until="load")
        page.evaluate("MathJax.startup.promise")
        page.evaluate(UNFOLD)
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        numbered = {"display_header_footer": True, "header_template": "<p></p>", "footer_template": FOOTER}
        page.pdf(path=PDF, format="A4", margin=margin, scale=0.8, outline=True, tagged=True, **numbered)
        browser.close()
