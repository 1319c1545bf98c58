"""The reproduced tables as rows of text, each cell from `paper` or from records; printed, and shown in the book."""

from textwrap import fill

from ..experiments import paper, studies
from ..experiments.protocols import IMAGENET_TIERS, TIERS, Reduction
from . import grids, records
from .statistics import difference, summarise

COLUMNS = ("row", "the paper", "ours", "n", "verdict")


def cells(table, tier, reduction=Reduction(), ids=(), results=None):
    """A table's lines in one tier: its columns' names, then a row's cells each."""
    rows = [(row, *compared(row, tier, reduction, results)) for row in paper.rows(table, ids)]
    if table == "choices":
        lines = [(row.id, row.case, ours.error(), ours.runs(), effect(ours, base)) for row, ours, base in rows]
        return [("row", "choice", "error", "n", "less its baseline"), *lines]
    if table == "gate-bias":
        best = min((ours.median for _, ours, _ in rows if ours.n), default=None)
        lines = [
            (row.id, ours.error(), ours.runs(), "best" if ours.n and ours.median == best else "")
            for row, ours, _ in rows
        ]
        return [("row", "validation error", "n", ""), *lines]
    return [COLUMNS] + [
        (row.id, str(row.published), ours.error(), ours.runs(), ours.verdict(baseline)) for row, ours, baseline in rows
    ]


def effect(ours, baseline):
    """What a choice does to the error, with the 95 % interval of the mean over pairs of runs of the same seed."""
    if baseline is None:
        return "baseline"
    if not (ours.n and baseline.n):
        return "not run"
    found = difference(ours, baseline)
    if found is None:
        return "no interval"
    mean, half = found
    return f"{mean:+.2f} ± {half:.2f}: " + ("contains zero" if abs(mean) <= half else "differs")


def compared(row, tier, reduction=Reduction(), results=None):
    """(the row's Summary, its baseline's Summary or None) in one tier."""
    ours = summarise(row, tier, reduction, results)
    if row.baseline is None:
        return ours, None
    (baseline,) = paper.rows(row.table, [row.baseline])
    return ours, summarise(baseline, tier, reduction, results)


def title(table, tier, reduction=Reduction()):
    """The heading of a printed table."""
    words = (IMAGENET_TIERS if table == 5 else TIERS)[tier]
    scale = words if tier == "paper" else f"{tier} tier: {words}"
    cut = f", reduced to {reduction}" if reduction.name else ""
    titles = paper.TITLES | studies.TITLES
    return f"{paper.label(table)}. {titles[table]} ({scale}{cut})"


def tier_words(tier, reduction=Reduction()):
    """A tier and its reduction as a sentence names them."""
    return f"{tier} tier" + (f", reduced to {reduction}" if reduction.name else "")


def note(table, tier):
    """What a reader must know of a table's numbers in a tier."""
    if table == "choices":
        return (
            "Percent, the median of n runs (mean ± standard deviation). The last column is the mean difference of runs "
            "of the same seed with its 95 % interval; of twenty such intervals, one misses by chance."
        )
    if table == "gate-bias":
        return (
            "Percent of the held-out tenth of the training images, the median of n folds (mean ± standard deviation)."
        )
    if tier == "paper":
        return "Percent; ours is the median of n runs at the last iteration (mean ± standard deviation)."
    where = (
        IMAGENET_TIERS[tier]
        if table == 5
        else {
            "smoke": "scikit-learn's digits with narrow nets",
            "pocket": "CIFAR at 16x16 with narrow nets and a shortened schedule",
            "quick": "CIFAR with a shortened schedule",
        }[tier]
    )
    return (
        f"Percent. Ours are on {where}: not comparable with the paper's numbers, only with each other. "
        "The verdict says whether what the paper states of the row is seen."
    )


def text(table, tier, reduction=Reduction(), ids=(), results=None):
    """The table as aligned plain text, with heading and note."""
    header, *lines = cells(table, tier, reduction, ids, results)
    rule = ["-" * max(map(len, column)) for column in zip(header, *lines, strict=True)]
    return "\n".join(
        [title(table, tier, reduction), "", *grids.plain([header, rule, *lines]), "", fill(note(table, tier), 80)]
    )


def markdown(table, tier, reduction=Reduction(), ids=(), results=None):
    """The table as Markdown. The paper's column stands only beside the paper tier."""
    header, *lines = cells(table, tier, reduction, ids, results)
    if header == COLUMNS and tier != "paper":
        header, *lines = [(row, *ours) for row, _, *ours in (header, *lines)]
    return grids.markdown(header, lines)


MARKERS = ("<!-- results: written by `invoke readme` -->", "<!-- /results -->")


def into_readme(readme, results=None):
    """The README's text with the block between MARKERS made anew from the committed tiers' records."""
    before, rest = readme.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    return f"{before}{MARKERS[0]}\n{results_block(results)}\n{MARKERS[1]}{after}"


def results_block(results=None):
    """Every row that has quick or paper records, with its numbers; rows at a reduced recipe say so."""
    lines, of_studies = [], {scale.reduction for scale in studies.SCALES.values()}  # the book's pages show those
    for row in (row for table in (1, 2, 3) for row in paper.rows(table)):
        for tier in ("paper", "quick"):
            cuts = [cut for cut in records.reductions(row, tier, results) if cut not in of_studies]
            for reduction in (Reduction(), *cuts):
                ours, baseline = compared(row, tier, reduction, results)
                if ours.n:
                    cut = f" at {reduction}" if reduction.name else ""
                    about = (row.table, row.id, f"{tier}{cut}")
                    lines.append((*about, ours.error(), ours.runs(), ours.verdict(baseline)))
    run = len({(table, id) for table, id, *_ in lines})
    rest = f"{run} of {sum(len(paper.rows(t)) for t in (1, 2, 3))} rows of Tables 1-3 have records; the rest: not run."
    header = ("table", "row", "tier", "test error, %", "n", "verdict")
    return f"{grids.markdown(header, lines)}\n\n{rest}" if lines else "No row has been run yet."
