"""Pictures for the book: drawn once with matplotlib, shown as SVG in the page's own colours, as PNG in print and PDF.

Every picture has a text for those who cannot see it, and where it shows numbers, these as a CSV file in the page.
"""

import base64
import csv
import hashlib
import html
import io
import math
import re
import textwrap
from collections import Counter

INK = "#000000"  # what is drawn in it takes the colour of the page's text
PAPER = "#ffffff"  # and what is drawn in this, the colour behind it
FAINT = "#9a9a9a"  # the same on light and dark paper

# Told apart on light and on dark paper and by readers who do not see red and green.
COLOURS = ("#2f83cc", "#d9730d", "#2a9d6a", "#c2549d", "#8a6fd1", "#b08900")
MARKS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")  # of lines that share a colour

WIDTH = 5.6  # inches of a picture with axes: on a phone's screen its words are as large as a caption's
LEAST = 63  # CSS pixels an inch that a screen gives a picture; one that is wider than the screen then scrolls
LETTER = 0.077  # inches of a letter in a legend, on average


class Picture:
    """A matplotlib Figure with a text for the blind (`alt`), a caption, and its numbers by column (`data`), if any.

    caption: what to see in it, in sentences, as HTML; the alternative text where there is none.
    """

    def __init__(self, figure, alt, data=None, name="data", caption=None):
        self.figure, self.data, self.name = figure, data, name
        self.alt, self.words = " ".join(alt.split()), " ".join((caption or alt).split())

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "image/png": self.png(), "text/plain": self.alt}

    def png(self):
        """The picture on white paper, as base64."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=160, facecolor="white")
        return base64.b64encode(file.getvalue()).decode()

    def svg(self):
        """The picture without paper, in the page's own colours."""
        import matplotlib

        salt = hashlib.sha256(self.alt.encode()).hexdigest()  # ids of two pictures on one page must differ
        file = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        text = text.replace(INK, "currentColor").replace(PAPER, f"var(--pst-color-background, {PAPER})")
        # what has no fill or stroke of its own is black in SVG, text above all
        width = self.figure.get_figwidth()
        least, kind = LEAST * width, ' class="wide"' if width > WIDTH else ""
        said = f'role="img" aria-label="{html.escape(self.alt)}"'
        return text.replace("<svg ", f'<svg{kind} fill="currentColor" style="min-width: {least:.0f}px" {said} ', 1)

    def html(self):
        return f'<figure class="drawn"><div>{self.svg()}</div>{caption(self.words, self.link())}</figure>'

    def csv(self):
        """The numbers behind the picture, a column each."""
        return as_csv(self.data, zip(*self.data.values(), strict=True))

    def link(self):
        """A link to them, as a file that lies in the page; empty where there are none."""
        return csv_link(self.name, self.csv()) if self.data else ""


def caption(words, link=""):
    """What stands below a picture: sentences, and a link to its numbers."""
    return f"<figcaption><p>{words}</p>{link and f' <p>{link}</p>'}</figcaption>"


def as_csv(header, lines):
    """Lines of cells under a header as CSV; None is an empty cell."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return file.getvalue()


def csv_link(name, text, words="Download the numbers (CSV)"):
    """A link to a CSV file that lies in the page."""
    content = base64.b64encode(text.encode()).decode()
    return f'<a download="{name}.csv" href="data:text/csv;base64,{content}">{words}</a>'


def figure(width, height):
    """A matplotlib Figure of that size in inches, with no more lines than it needs."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def lines(series, x, *, alt, name, xlabel, ylabel, log=False, start=0, caption=None, colours=None, height=3.0):
    """A Picture of several lines over the same whole numbers, counted from `start`.

    alt, caption: as a Picture's. series: {label: values, one per unit, None where there is none}. log: whether the
    upright axis is logarithmic. colours: {label: its line's}, where it is not by place. height: of the axes, in inches.
    """
    drawing = figure(WIDTH, height)
    axis = drawing.add_subplot()
    numbers = range(start, start + max(map(len, series.values())))
    drawn = Counter()
    for place, (label, values) in enumerate(series.items()):
        colour = (colours or {}).get(label, COLOURS[place % len(COLOURS)])
        axis.plot(
            numbers[: len(values)],
            gaps(values),
            color=colour,
            marker=MARKS[place % len(MARKS)],
            markersize=4,
            markevery=max(1, len(numbers) // 12),
            linestyle=DASHES[drawn[colour] % len(DASHES)],
            linewidth=1.6,
            label=label,
        )
        drawn[colour] += 1
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axis.margins(x=0.01)
    axis.xaxis.get_major_locator().set_params(integer=True)  # there is no unit 2.5
    plain(axis)
    legend(drawing, axis.lines)
    padded = {label: [*values, *[None] * (len(numbers) - len(values))] for label, values in series.items()}
    return Picture(drawing, alt, {x: list(numbers), **padded}, name, caption)


def legend(drawing, handles):
    """Put a legend below a figure, in as many columns as its words leave room for.

    The figure grows by the legend's height, so that many words do not squeeze what is drawn.
    """
    labels = [each.get_label() for each in handles]
    longest = max(len(line) for label in labels for line in label.splitlines())
    wide = LETTER * longest + 0.55  # inches: the line, the words, what is between
    columns = max(1, min(3, len(labels), int(drawing.get_figwidth() / wide)))
    made = drawing.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    drawing.set_figheight(drawing.get_figheight() + made.get_window_extent().height / drawing.dpi)


def wrapped(words, width):
    """Words in lines of about so many characters; a formula, between dollars, is not broken, nor is "n = 3"."""
    kept = re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", ""), words)
    return textwrap.fill(kept.replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), width)


def gaps(values):
    """The values with nothing drawn where there is None."""
    return [math.nan if value is None else value for value in values]


def plain(axis):
    """Take the box from an axis, and give it a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.6)
