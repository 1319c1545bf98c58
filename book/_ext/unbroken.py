"""Where no line may end: before a percent sign, around "±" and the "=" of "n = 5", after a formula, within an option."""

import re

from docutils import nodes

SPACES = re.compile(r"(?<=\d) (?=%)|(?<=\d) (?=± \d)|(?<=±) (?=\d)|(?<=\b[nR]) (?== \d)|(?<=\b[nR] =) (?=\d)")
MARKS = re.compile(r"[).,;:]+")  # what follows a formula without a space
SHELL = re.compile(r'<div class="highlight-sh notranslate">.*?</div>', re.S)
OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
VERBATIM = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment)


def setup(app):
    app.connect("doctree-resolved", join)
    app.connect("html-page-context", keep_options, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def join(app, doctree, docname):
    """Join in a page's text what belongs together."""
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, VERBATIM) and (joined := SPACES.sub("\N{NO-BREAK SPACE}", text)) != text:
            text.parent.replace(text, nodes.Text(joined))
    for formula in list(doctree.findall(nodes.math)):
        _join_marks(formula)


def _join_marks(formula):
    """A formula and the marks that follow it become one span, which the style keeps on a line."""
    parent, place = formula.parent, formula.parent.index(formula)
    after = parent[place + 1] if place + 1 < len(parent) else None
    if isinstance(after, nodes.Text) and (marks := MARKS.match(after)):
        whole = nodes.inline("", "", formula, nodes.Text(marks[0]), classes=["whole"])
        parent[place : place + 2] = [whole, nodes.Text(after[marks.end() :])]


def keep_options(app, pagename, templatename, context, doctree):
    """Put each option of a shell command into a span of its own."""
    context["body"] = SHELL.sub(_with_spans, context.get("body", ""))


def _with_spans(found):
    return OPTION.sub(r'<span class="whole">\g<0></span>', found[0])
