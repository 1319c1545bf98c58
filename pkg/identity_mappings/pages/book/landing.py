"""The landing page: the result in a sentence, the pair of units, charts of our own, how far the paper was run."""

import base64
import io
import statistics
from pathlib import Path

from ... import grids
from ...experiments import paper
from ...experiments.protocols import IMAGES, TIERS
from ...experiments.runs import Run
from ...results import records
from ...results import tables as results_tables
from ...results.statistics import difference, summaries, summarise
from .. import diagrams, inside, notebooks, pictures, plots
from ..show import markdown
from . import evidence, tables

PAPERS_BIAS = -6  # of the exclusive gate, section 3.1
CLAIM = "**The paper's claim: leave the way from unit to unit alone, and a thousand layers train.**"
PROMISE = (
    "Here its equations are checked in numbers, its units are drawn by the code that builds them, and its tables are "
    "trained again."
)
GUESS = 85.0  # percent: what does not lie far below the error of a guess among ten classes
HALF = 50.0  # percent: between a net that has learned and one that guesses
SEARCHED = {"smoke": "On scikit-learn's digits", "pocket": "On CIFAR-10 at 16x16 pixels"}
SEARCHED |= dict.fromkeys(("quick", "paper"), "On CIFAR-10")


def pair():
    """A Picture: Fig. 1, left."""
    picture = diagrams.figure_1()
    picture.words = (
        "The two units, drawn by the code that builds them. The grey arrow is the way of a signal that nothing "
        "changes: in the original unit it ends at the ReLU after each addition, in the proposed one it runs through "
        "the whole network."
    )
    return picture


def result():
    """The result in a sentence or two: Table 2's pair and Table 1, where several runs decide, and 1001 layers."""
    said = [sentence for sentence in (_of_the_pair(), _of_the_shortcuts()) if sentence]
    return markdown(" ".join([*(said or [CLAIM]), of_the_depth() or PROMISE]))


def of_the_depth(results=None):
    """What ResNet-1001 ends at with either unit, in a sentence, from the tier where it was watched; "" where nowhere.

    It tells what was seen, and of single runs that they decide nothing; a verdict is for the tables.
    """
    found = {words: inside.seen("ResNet-1001", unit, results) for unit, words in inside.UNITS.items()}
    if not all(each is not None and each.n for each in found.values()):
        return ""
    ends = {words: statistics.median(record["test_error"] for record in each.records) for words, each in found.items()}
    n = min(each.n for each in found.values())
    tier, _ = inside.settings(results)[0]
    runs = "one run of each, which decides nothing" if n == 1 else f"the median of {n} runs of each"
    images = IMAGES[next(iter(found.values())).records[0]["recipe"]["dataset"]]
    return (
        f"On {images}, 1001 layers of original units end at a test error of {ends['original']:.1f} %"
        f"{', which is a guess,' * (ends['original'] > GUESS)} and 1001 layers of the proposed ones at "
        f"{ends['full pre-activation']:.1f} % ([{inside.words(results)}](inside.md), {runs})."
    )


def _of_the_pair():
    """ResNet-110 with pre-activation against the original, in the best tier that has both."""
    (row,) = paper.rows(2, ["110-full-pre-activation"])
    best = evidence.best(row)
    if best is None or best.baseline() is None:
        return ""
    (_, verdict, mean, half) = best.differences()[0]
    if half is None or verdict.word == "untrained":
        return ""  # one pair of runs says nothing, nor does one that has not learned
    interval = f" ± {half:.1f}"
    return (
        f"**With full pre-activation, ResNet-110 ends {abs(mean):.1f}{interval} points of test error "
        f"{'below' if mean < 0 else 'above'} the original unit** on {best.images} ([{best.scale}, n = {verdict.n}]"
        f"({tables.address(row)}); the paper: {tables.papers_difference(row):+.2f} at full size)."
    )


def _of_the_shortcuts():
    """How many of Table 1's variants are as the paper says."""
    found = tables.points(1)
    worse = [verdict for row, _, _, verdict, *_ in found if row.claim in ("worse", "fails") and verdict.n > 1]
    if not any(verdict.word in ("seen", "contradicted") for verdict in worse):
        return ""
    seen = sum(verdict.word == "seen" for verdict in worse)
    against = sum(verdict.word == "contradicted" for verdict in worse)
    return (
        f"Of {len(worse)} changes to the shortcut that the paper found to harm, {seen} are seen to harm here, "
        f"{against} are seen not to, and {len(worse) - seen - against} are undecided ([Table 1](table-1.md))."
    )


def chart():
    """A Picture of our own evidence: Table 1's differences where some are decided, else the search for a bias."""
    decided = [verdict for *_, verdict, _, _ in tables.points(1) if verdict.word in ("seen", "contradicted")]
    picture = tables.forest(1) if len(decided) > 1 else bias_search()
    picture.figure.set_size_inches(5.4, picture.figure.get_figheight())  # it stands beside the pair of units
    return picture


def bias_search():
    """A Picture: the error by the bias that the exclusive gates start from."""
    rows = paper.rows("gate-bias")
    (tier, reduction), *_ = records.settings(rows)[::-1]
    found = [summary for row in rows for summary in summaries(row, tier, reduction)]
    picture = plots.search(found, "The search for the exclusive gate's bias")
    ends = {s.row.case.rpartition("= ")[2]: s.median for s in found if s.n}
    learn = [bias for bias, median in ends.items() if median < HALF]
    stay = [bias for bias, median in ends.items() if median >= HALF]
    if learn and stay:
        low, high = max(learn, key=int), min(stay, key=int)
        picture.words = (
            f"One number decides whether 110 layers learn. Gates that start from a bias of {high} end at "
            f"{ends[high]:.1f} % error, gates from {low} at {ends[low]:.1f} %: their shortcuts start nearer to the "
            f'identity. {SEARCHED[tier]}; see <a href="gate-bias.html">the search</a>.'
        )
    return picture


def reading_of_the_search():
    """What the search picks beside the paper's choice, and whether its folds can tell the two apart, in a sentence."""
    rows = paper.rows("gate-bias")
    (tier, reduction), *_ = records.settings(rows)[::-1]
    found = {int(row.case.rpartition("= ")[2]): summarise(row, tier, reduction) for row in rows}
    ran = {bias: summary for bias, summary in found.items() if summary.n}
    best = min(ran, key=lambda bias: ran[bias].median)
    said = f"The search picks a bias of **{best}**, with a median of {ran[best].median:.2f} % over {ran[best].n} folds."
    if PAPERS_BIAS in ran and best != PAPERS_BIAS:
        gap = difference(ran[PAPERS_BIAS], ran[best])
        close = gap is not None and abs(gap[0]) <= gap[1]
        said += f" The paper's choice, {PAPERS_BIAS}, has {ran[PAPERS_BIAS].median:.2f} % here" + (
            ": these folds cannot tell the two apart." if close or gap is None else "."
        )
    return markdown(said)


SCALED = {  # of the picture of gradients: (the row of Table 1, how it is called there)
    "identity": "original",
    "0.5 on the shortcut": "scaling-0.5-1",
    "none: a plain net": "plain",
}


def gradients():
    """A Picture: the gradient on its way back through the 54 units of ResNet-110, before any training."""
    rows = {label: paper.rows(1, [id])[0] for label, id in SCALED.items()}
    found = {label: _gradients_of(row) for label, row in rows.items()}
    times = {label: norms[0] / norms[-1] for label, norms in found.items()}
    return pictures.lines(
        found,
        "unit",
        alt=f"""The norm of the loss's gradient at each of the 54 units of ResNet-110 before training, on a logarithmic
        axis. From the last unit to the first it grows by {_listed(times)}.""",
        caption=f"""How far apart the gradients of the first and the last of 54 units lie before training. On its way
        back, from right to left, the gradient grows by {_listed(times)}. A factor on the shortcut counts once per unit,
        what went through the branches takes over, and no one learning rate suits both ends; see
        <a href="inside.html">Inside the networks</a>.""",
        name="gradients-of-54-units",
        xlabel="unit l",
        ylabel="norm of dE/dx",
        log=True,
        colours={label: plots.colour_of(row) for label, row in rows.items()},
        height=2.5,
    )


def _gradients_of(row):
    """The norms of dE/dx_l of a row's net in the smoke tier, before its first step, on the first training images."""
    from ...analysis.measurements import measure
    from ...training.state import State

    state = State(Run(row, next(iter(row.networks)), "smoke", 0).recipe, 0, "cpu", "fp32")
    state.network.train()
    return [unit.gradient for unit in measure(state.network, *state.batches.images.plain(0, 64))]


def _listed(times):
    said = [f"a factor of {float(f'{factor:.2g}'):,.0f} ({label})" for label, factor in times.items()]
    return f"{', '.join(said[:-1])} and {said[-1]}"


def protocol():
    """How far the paper's own protocol has been run, in one sentence."""
    rows = [row for table in paper.TABLES for row in paper.rows(table)]
    full = len(results_tables.covered(rows, "paper"))
    some = sum(bool(evidence.of_row(row)) for row in rows)
    if full == len(rows):
        return markdown(f"All {full} rows of Tables 1 to 5 have been trained by the paper's own protocol.")
    return markdown(
        f"**How far this has come.** The paper's own protocol, 64,000 iterations on full-size CIFAR or 90 epochs of "
        f"ImageNet, has been run for {full or 'none'} of the {len(rows)} rows of Tables 1 to 5; it takes a GPU. {some} "
        "rows have been trained at a smaller size, where a row is compared with its baseline and never with the "
        "paper's number."
    )


def coverage():
    """Rows by tiers: how many rows of each table have been run, and with how many runs."""
    tiers, lines = list(TIERS), []
    for table in paper.TABLES:
        rows = paper.rows(table)
        cells = [_covered(rows, tier) for tier in tiers]
        reduced = sum(any(records.reductions(row, tier) for tier in tiers) for row in rows)
        lines.append((f"[Table {table}](table-{table}.md)", len(rows), *cells, reduced or "-"))
    header = ("", "rows", *(f"{tier} tier" for tier in tiers), "reduced")
    kept = [place for place in range(len(header)) if place < 2 or any(str(line[place]) != "-" for line in lines)]
    return markdown(
        grids.captioned(
            "Rows that have been run in each tier, with the runs of the row that has fewest and of the one that has "
            "most. *Reduced* rows were run at a smaller depth, width or number of iterations than their tier's.",
            [header[place] for place in kept],
            [[line[place] for place in kept] for line in lines],
        )
    )


def _covered(rows, tier):
    """How many of the rows have runs in a tier, and n."""
    ns = results_tables.covered(rows, tier)
    if not ns:
        return "-"
    spread = f"n = {min(ns)}" + (f" to {max(ns)}" if max(ns) > min(ns) else "")
    return f"{len(ns)} ({spread})"


def card():
    """The matplotlib Figure that stands for the site where it is linked to: 1200 x 630 pixels at 100 dpi."""
    from matplotlib.image import imread

    drawing = pictures.figure(12, 6.3)
    drawing.set_layout_engine("none")
    drawing.set_facecolor("white")
    axis = drawing.add_axes([0.56, 0.06, 0.42, 0.88])
    axis.imshow(imread(io.BytesIO(base64.b64decode(diagrams.figure_1().png()))))
    axis.axis("off")
    drawing.text(0.05, 0.62, "Identity Mappings in\nDeep Residual Networks", size=30, weight="bold", va="center")
    promise = "A companion that can be run:\nthe analysis in numbers, every unit,\nevery table."
    drawing.text(0.05, 0.36, promise, size=19, va="center", color="#444444")
    return drawing


def citations():
    """The paper and the companion in BibTeX."""
    import yaml

    cited = yaml.safe_load(Path(notebooks.ROOT, "CITATION.cff").read_text())
    bib = Path(notebooks.ROOT, "book", "references.bib").read_text()
    paper_entry = bib[bib.index("@inproceedings{he2016identity") :].split("\n}\n")[0] + "\n}"
    authors = " and ".join(_in_bibtex(author) for author in cited["authors"])
    ours = (
        f"@software{{identity_mappings_companion,\n  title   = {{{cited['title']}}},\n  author  = {{{authors}}},\n"
        f"  version = {{{cited['version']}}},\n  license = {{{cited['license']}}}\n}}"
    )
    return markdown("\n\n".join(f"```bibtex\n{entry}\n```" for entry in (paper_entry, ours)))


def _in_bibtex(author):
    return f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
