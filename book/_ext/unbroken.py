"""Where no line ends: before a percent sign, around "±" and the "=" of "n = 5", after a formula, within an option."""

import re

SPACES = re.compile(r"(?<=\d) (?=%)|(?<=\d) (?=± \d)|(?<=±) (?=\d)|(?<=\b[nR]) (?== \d)|(?<=\b[nR] =) (?=\d)")
NOT_WORDS = re.compile(r"<(pre|code|script|style|title)\b.*?</\1>|<[^>]*>", re.S)
FORMULA = re.compile(r'(\(?<span class="math [^>]*>[^<]*</span>[).,;:]+)')  # and the marks that touch it
SHELL = re.compile(r'<div class="highlight-sh notranslate">.*?</div>', re.S)
OPTION = re.compile(r"((?<![\w-])--?[a-z][\w-]*)")
LONG = re.compile(r'<span class="pre">(?=[^<]{21})')  # a word of code that a phone's table has no room for
WHOLE = r'<span class="whole">\1</span>'  # the style keeps it on a line


def setup(app):
    app.connect("html-page-context", join, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def join(app, pagename, templatename, context, doctree):
    """Join in a page's body what belongs together."""
    body = FORMULA.sub(WHOLE, with_spaces(context.get("body", "")))
    body = LONG.sub('<span class="pre long">', body)
    context["body"] = SHELL.sub(lambda found: OPTION.sub(WHOLE, found[0]), body)


def with_spaces(body):
    """A page's body with spaces in its words that break no line."""
    parts, end = [], 0
    for found in NOT_WORDS.finditer(body):
        parts += [SPACES.sub("\N{NO-BREAK SPACE}", body[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, SPACES.sub("\N{NO-BREAK SPACE}", body[end:])])
