"""Who made the site, from which commit, and what a preview of a page shows: footer, description, social card."""

import html
import os
from pathlib import Path

import yaml

from identity_mappings.pages import published
from identity_mappings.pages.book import landing

ROOT = Path(__file__).resolve().parents[2]
CARD = "_static/card.png"
DESCRIPTION = 160  # characters that a search engine or a preview shows


def setup(app):
    app.connect("config-inited", sign)
    app.connect("html-page-context", describe)
    app.connect("build-finished", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def sign(app, config):
    """The authors as CITATION.cff has them, and the footer."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    config.author = ", ".join(_name(author) for author in cited["authors"])
    config.html_theme_options["extra_footer"] = footer(published.repository(), published.commit(), published.date())


def _name(author):
    return author.get("name") or f"{author['given-names']} {author['family-names']}"


def footer(address, commit, date):
    """One line: commit and date of what is built, where they are known, and the repository."""
    if not commit:
        return ""
    shown = f'<a href="{address}/commit/{commit}">{commit[:10]}</a>' if address else commit[:10]
    source = f' · <a href="{address}">source</a>' if address else ""
    return f"<p>Built from commit {shown} of {date}{source}</p>"


def describe(app, pagename, templatename, context, doctree):
    """A description of the page from its first paragraph, and what a link to it shows elsewhere."""
    if doctree is None:
        return
    text = first_sentences(doctree)
    tags = {"description": text}
    shown = {"og:title": context["title"], "og:description": text, "og:type": "article"}
    if site := os.environ.get("IDENTITY_MAPPINGS_SITE"):  # a card's address must be whole
        shown |= {"og:image": f"{site.rstrip('/')}/{CARD}", "og:url": f"{site.rstrip('/')}/{pagename}.html"}
        tags["twitter:card"] = "summary_large_image"
    lines = [f'<meta name="{name}" content="{html.escape(str(value))}">' for name, value in tags.items()]
    lines += [f'<meta property="{name}" content="{html.escape(_plain(value))}">' for name, value in shown.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def _plain(value):
    return str(value).replace("<", "").replace(">", "")


def first_sentences(doctree):
    """The first paragraph of a page, cut at a word."""
    from docutils import nodes

    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 40:  # not a line of links
            return text if len(text) <= DESCRIPTION else text[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
    return ""


def draw(app, exception):
    """Draw the social card."""
    if not exception and app.builder.format == "html":
        landing.card().savefig(Path(app.outdir, CARD), dpi=100)
