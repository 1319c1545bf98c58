"""Pages that need no network: MathJax and plotly lie beside them, and what would run code elsewhere is left out.

The files are those of MathJax 3.2.2, the last release of the series that Sphinx is written for, as the Python package
sphinx-mathjax-offline carries them. Taken are the one file that turns TeX into SVG, which needs no fonts, and what it
may ask for later: rarer TeX macros, and the menu's reader of equations aloud.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from plotly.offline import get_plotlyjs
from sphinx.errors import ExtensionError

PACKAGE = "sphinx-mathjax-offline"
NEEDED = ("tex-svg.js", "input/tex/extensions", "a11y", "sre/mathmaps/base.json", "sre/mathmaps/en.json")


def setup(app):
    app.connect("config-inited", point)
    app.connect("builder-inited", copy)
    app.connect("html-page-context", with_plotly)
    app.connect("html-page-context", without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def point(app, config):
    """Have the pages load MathJax from the site itself; the path is relative to `_static`."""
    config.mathjax_path = "mathjax/tex-svg.js"


def copy(app):
    """Copy the files into the site, those that are not there yet."""
    if app.builder.format != "html":
        return
    source, target = found() / "static" / "mathjax", Path(app.outdir, "_static", "mathjax")
    for name in NEEDED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def with_plotly(app, pagename, templatename, context, doctree):
    """Have the pages that draw with plotly load the installed package's script, before their body."""
    if 'class="curves"' in context.get("body", ""):
        script = Path(app.outdir, "_static", "plotly.min.js")
        if not script.exists():
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(get_plotlyjs(), encoding="utf-8")
        app.add_js_file("plotly.min.js", priority=100)


def without_thebe(app, pagename, templatename, context, doctree):
    """Drop the scripts of Thebe, which Jupyter Book loads on every page, twice, and which this book does not use."""
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])
        files[:] = [file for file in files if "thebe" not in f"{file} {getattr(file, 'attributes', '')}".lower()]


def found():
    """The folder of the installed package."""
    spec = find_spec(PACKAGE)
    if spec is None:
        raise ExtensionError(f"the pages' equations need the package {PACKAGE}; not installed: pip install {PACKAGE}")
    return Path(spec.submodule_search_locations[0])
