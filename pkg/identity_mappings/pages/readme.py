"""What the README shows of the records: how far the paper's protocol has been run, three results, the coverage.

`invoke readme` writes it, from the records that git knows: the blocks between a marker `<!-- made: name -->` and the
next `<!-- /made -->`, and the picture, once for light paper and once for dark. What each row gave is on the book's
pages.
"""

import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

from .. import grids
from ..experiments import paper
from ..experiments.protocols import TIERS
from ..results import records, tables
from ..results.statistics import summarise
from ..results.verdicts import claimed, verdict
from . import diagrams
from .pictures import COLOURS, FAINT, INK, PAPER, Picture, figure, plain

HEADLINES = (  # chosen before they were run: a shortcut, a place for BN, the proposed unit
    (1, "conv-1x1", "A 1x1 convolution on the shortcut is worse than the identity"),
    (2, "110-bn-after-addition", "BN after the addition is worse than before it"),
    (2, "110-full-pre-activation", "Full pre-activation is better than the original unit"),
)
PICTURE = (2, "110-full-pre-activation")
PAPERS = {"light": ("#1f2328", "#ffffff"), "dark": ("#e6edf3", "#0d1117")}  # ink and paper


def write(root):
    """Write the README's blocks and its pictures anew."""
    readme = Path(root, "README.md")
    with known_records(root) as results:
        readme.write_text(written(readme.read_text(), results))
        for name in PAPERS:
            picture_path(root, name).write_text(on_paper(picture(results), name))


@contextmanager
def known_records(root):
    """A folder of the records that git knows, those added with `git add` included; without git, all that are there.

    What this machine has made beside them, the smoke tier above all, is not what the README speaks of.
    """
    if not Path(root, ".git").exists():
        yield Path(root, "results")
        return
    with TemporaryDirectory() as folder:
        git = ["git", "-C", str(root)]
        names = subprocess.run([*git, "ls-files", "-z", "--", "results"], capture_output=True, check=True).stdout
        subprocess.run([*git, "checkout-index", "-z", "--stdin", f"--prefix={folder}/"], input=names, check=True)
        yield Path(folder, "results")


def picture_path(root, name):
    return Path(root, "book", "_static", f"unit-and-result-{name}.svg")


def written(text, results=None):
    """The README's text with every block made anew."""
    blocks = {"protocol": protocol(results), "picture": shown(results), "results": headlines(results)}
    blocks["coverage"] = coverage(results)
    for name, block in blocks.items():
        marker = f"<!-- made: {name} -->"
        text, found = re.subn(
            f"{marker}.*?<!-- /made -->", lambda _, new=f"{marker}\n{block}\n<!-- /made -->": new, text, flags=re.S
        )
        assert found == 1, f"the README must have one block {marker}; it has {found}"
    return text


def protocol(results=None):
    """One sentence: how far the paper's own protocol has been run."""
    rows = [row for table in paper.TABLES for row in paper.rows(table)]
    run = len(tables.covered(rows, "paper", results))
    run = "no row" if not run else f"{run} of the {len(rows)} rows"
    return fill(
        f"**The paper's own protocol has been run for {run} of its Tables 1 to 4**, and for nothing on ImageNet. What "
        "is here so far comes from smaller tiers, which compare the paper's networks with each other at less cost.",
        120,
    )


def headlines(results=None):
    """Three of the paper's statements, each with what the nearest tier says of it."""
    lines = []
    for table, id, statement in HEADLINES:
        (row,) = paper.rows(table, [id])
        setting = tables.nearest(row, results)
        if setting is None:
            lines.append((statement, "", "", "", "not run"))
            continue
        (base,) = paper.rows(table, [row.baseline])
        ours, theirs = (summarise(one, *setting, results) for one in (row, base))
        where = tables.tier_words(*setting).removesuffix(" tier")
        lines.append((statement, where, theirs, ours, verdict(claimed(row), *setting, results)))
    header = ("the paper says", "tier", "its baseline, error in %", "the row, error in %", "verdict")
    return grids.markdown(header, lines)


GROUPS = {  # of rows that are run together, in the order in which the tables print them
    "Table 1, ResNet-110": (1, ""),
    "Table 2, ResNet-110": (2, "110-"),
    "Table 2, ResNet-164": (2, "164-"),
    "Table 3, CIFAR-10": (3, "cifar10-"),
    "Table 3, CIFAR-100": (3, "cifar100-"),
    "Table 4, CIFAR-10": (4, "cifar10-"),
    "Table 4, CIFAR-100": (4, "cifar100-"),
    "Table 5, ImageNet": (5, ""),
}


def coverage(results=None):
    """Rows by tiers: how many of a group's rows have been run, and how many times; smoke is run by every reader."""
    lines, tiers = [], [tier for tier in TIERS if tier != "smoke"]
    for name, (table, start) in GROUPS.items():
        rows = [row for row in paper.rows(table) if row.id.startswith(start)]
        lines.append((name, len(rows), *(_covered(rows, tier, results) for tier in tiers)))
    return grids.markdown(("", "rows", *tiers), lines)


def _covered(rows, tier, results):
    run = tables.covered(rows, tier, results)
    if not run:
        cut = any(records.reductions(row, tier, results) for row in rows)
        return "cut down only" if cut else "not run"
    n = f"n = {run[0]}" if min(run) == max(run) else f"n = {min(run)} to {max(run)}"
    return f"{len(run)} row{'s' * (len(run) != 1)}, {n}"


def picture(results=None):
    """A Picture: the original unit and the proposed one, and what the second does to the error, seed by seed."""
    (row,) = paper.rows(PICTURE[0], [PICTURE[1]])
    sketches = diagrams.sketches_1()
    drawing = figure(8.2, 3.4)
    left, middle, right = drawing.subplots(1, 3, width_ratios=(1, 1, 1.5))
    height = max(map(diagrams.height_of, sketches))
    for place, (axis, each) in enumerate(zip((left, middle), sketches, strict=True)):
        diagrams.draw(axis, each, 0.0, f"readme-{place}")
        axis.set(xlim=(-0.9, diagrams.BRANCH + 0.8), ylim=(-height - 0.35, 0.15), aspect="equal")
        axis.axis("off")
        axis.set_title(each.title, size=9, color=INK)
    said = _result(right, row, results)
    return Picture(drawing, " ".join(["Two Residual Units.", *map(diagrams.described, sketches), said]))


def _result(axis, row, results):
    """Draw a row's errors beside its baseline's, runs of a seed joined; returns what is drawn, in words."""
    (base,) = paper.rows(row.table, [row.baseline])
    setting = tables.nearest(row, results)
    plain(axis)
    axis.set(xlim=(-0.4, 1.4), xticks=(0, 1), xticklabels=("original", "proposed"))
    if setting is None:
        axis.set(yticks=())
        axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes, color=INK, size=9)
        return "Not run."
    found = [summarise(one, *setting, results) for one in (base, row)]
    errors = [{record["seed"]: record["test_error"] for record in each.records} for each in found]
    for seed in sorted(errors[0].keys() & errors[1].keys()):
        pair = [each[seed] for each in errors]
        if None not in pair:  # a run that diverged has no error
            axis.plot((0, 1), pair, color=FAINT, linewidth=1.2)
            axis.plot((0, 1), pair, "o", color=COLOURS[0], markersize=6)
    where, told = tables.tier_words(*setting), verdict(claimed(row), *setting, results)
    axis.set_title(f"ResNet-110, {where}: test error, %\nbetter: {told}", size=9, color=INK)
    return f"ResNet-110, {where}, test error in percent: original {found[0]}; proposed {found[1]}. Better: {told}."


def on_paper(drawn, name):
    """The picture as a file of its own, in the ink of light or of dark paper."""
    ink, paper_ = PAPERS[name]
    text = drawn.svg().replace("currentColor", ink).replace(f"var(--pst-color-background, {PAPER})", paper_)
    return re.sub(r' style="min-width: \d+px"', "", text.replace(' class="wide"', ""), count=1)


def shown(results=None):
    """The picture as the README takes it, with its text for those who cannot see it."""
    alt = picture(results).alt.replace('"', "'")
    light, dark = (picture_path("", name).as_posix() for name in PAPERS)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" width="820" alt="{alt}"></picture>'
    )
