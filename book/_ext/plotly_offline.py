"""Give pages with curves plotly's script from the installed package, so that they work without a network."""

from pathlib import Path
from tempfile import TemporaryDirectory


def setup(app):
    app.connect("builder-inited", bring)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def bring(app):
    """Put plotly.min.js among the site's static files."""
    from plotly.offline import get_plotlyjs

    folder = TemporaryDirectory()
    app.connect("build-finished", lambda *_: folder.cleanup())
    (Path(folder.name) / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    app.config.html_static_path.append(folder.name)


def load(app, pagename, templatename, context, doctree):
    """Load it on the pages that draw with it, before their body."""
    if 'class="curves"' in context.get("body", ""):
        app.add_js_file("plotly.min.js", priority=100)
