"""What the theme and Sphinx leave out for readers who hear a page; tests/book/test_site.py has axe-core look."""

from pathlib import Path

from bs4 import BeautifulSoup

# What is wider than its page scrolls; who has no mouse must reach it to scroll it. The theme does so for code alone.
REACH = """
const reach = () => document.querySelectorAll("article table, figure.drawn > div").forEach((each) =>
  each.scrollWidth > each.clientWidth ? (each.tabIndex = 0) : each.removeAttribute("tabindex"));
addEventListener("load", reach);
addEventListener("resize", reach);
"""


MARKS = 2  # characters of a cell that is a mark, or two


def setup(app):
    app.add_js_file(None, body=REACH)
    app.connect("config-inited", rank)
    app.connect("config-inited", number_nothing, priority=900)
    app.connect("html-page-context", complete, priority=900)  # after the theme has put its functions there
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rank(app, config):
    """Have the search find chapters before the pages of single rows; Sphinx asks for the whole path."""
    config.html_search_scorer = str(Path(app.confdir, "_static", "scorer.js"))


def number_nothing(app, config):
    """Leave captions without numbers: "Table 2" is the paper's. Jupyter Book's LaTeX part numbers whatever is set."""
    config.numfig = False


def complete(app, pagename, templatename, context, doctree):
    """Complete the list of pages and the body of a page."""
    make = context["generate_toctree_html"]
    context["generate_toctree_html"] = lambda *given, **named: with_names(make(*given, **named))
    # Sphinx calls references a list, whose children must be items; the role that they have instead is deprecated.
    body = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')
    # A fold is called by its words, as "Solution of exercise 1"; MyST-NB gives all of them one other name.
    body = body.replace(' aria-label="Toggle hidden content"', "")
    context["body"] = with_labels(body) if "<table" in body else body


def with_names(tree):
    """The list of pages with a name for each arrow that unfolds a part of it; the theme gives it an icon alone."""
    soup = BeautifulSoup(str(tree), "html.parser")
    for arrow in soup.select("li > details > summary"):
        arrow["aria-label"] = f"Pages under {arrow.find_parent('li').a.get_text(strip=True)}"
    return str(soup)


def with_labels(body):
    """A page's tables with each cell told its column's name: on a narrow screen a row stands as a card of its own.

    A table of single marks is narrow enough as it is.
    """
    soup = BeautifulSoup(body, "html.parser")
    for table in soup.find_all("table"):
        names = [cell.get_text(" ", strip=True) for cell in table.select("thead th")]
        if len(names) > 2:
            rest = [cell.get_text(strip=True) for cell in table.select("tbody tr > :not(:first-child)")]
            kind = "marks" if max(map(len, rest), default=0) <= MARKS else "cards"
            table["class"] = [*table.get("class", ()), kind]
            for row in table.select("tbody tr"):
                for name, cell in zip(names, row.find_all(["td", "th"]), strict=False):
                    cell["data-label"] = name.rstrip("?")  # a colon follows it
                    if not cell.get_text(strip=True) and not cell.img:
                        cell.clear()  # an empty cell is no line of a card
    return str(soup)
