"""The reproduced tables as rows of text, each cell from `paper` or from records; printed, and shown in the book."""

from dataclasses import dataclass
from textwrap import fill

from .. import grids
from ..experiments import paper, studies
from ..experiments.protocols import IMAGENET_TIERS, TIERS, Reduction
from . import records
from .statistics import difference, summaries, summarise
from .verdicts import NOT_RUN, beside_the_paper, claimed, has_failed, of_baseline, together, verdicts, words

ENOUGH = 3  # pairs of runs from which a tier nearer to the paper's is preferred to one farther off
COLUMNS = ("row", "the paper", "ours", "n", "verdict")


def cells(table, tier, reduction=Reduction(), ids=(), results=None):
    """A table's lines in one tier: its columns' names, then a row's cells each."""
    rows = paper.rows(table, ids)
    if table == "choices":
        found = [(row, *compared(row, tier, reduction, results)) for row in rows]
        lines = [(row.id, row.case, ours.error(), ours.runs(), effect(ours, base)) for row, ours, base in found]
        return [("row", "choice", "error", "n", "less its baseline"), *lines]
    if table == "gate-bias":
        found = [summarise(row, tier, reduction, results) for row in rows]
        best = min((ours.median for ours in found if ours.n), default=None)
        lines = [
            (ours.row.id, ours.error(), ours.runs(), "best" if ours.n and ours.median == best else "") for ours in found
        ]
        return [("row", "validation error", "n", ""), *lines]
    lines = [(line, row) for row in rows for line in row_lines(row, tier, reduction, results)]
    return [COLUMNS] + [
        (line.name, str(row.published) if line.name == row.id else "", line.error, line.n, line.verdict)
        for line, row in lines
    ]


@dataclass(frozen=True)
class Line:
    """What is said of one row, or of one of the recipes that it sums up: wherever it is said, it is made here."""

    name: str
    error: str
    n: str
    verdict: str

    def __str__(self):
        return self.error if self.error == "not run" else f"{self.error}, n = {self.n}"


def row_lines(row, tier, reduction=Reduction(), results=None):
    """The Lines of a row in a tier: one, or for a row of several recipes one each and then the sum that the row is."""
    found = summaries(row, tier, reduction, results)
    each = _verdicts(row, found, tier, reduction, results)
    lines = [Line(ours.name, ours.error(), ours.runs(), said) for ours, (_, said) in zip(found, each, strict=True)]
    if len(found) == 1:
        return lines
    if not any(ours.n for ours in found):
        return [*lines, Line(row.id, "not run", "0", "not run")]
    runs = sorted({ours.n for ours in found})
    n = f"{' to '.join(map(str, (runs[0], runs[-1])[: len(runs)]))} each"
    sum_of_all = together([verdict for verdict, _ in each])
    return [*lines, Line(row.id, _summed_up(found), n, words(row, sum_of_all))]


def _verdicts(row, found, tier, reduction, results):
    """[(Verdict on the row's claim, what a table says)] for each recipe of a row."""
    comparison = claimed(row)
    if comparison is None:
        is_baseline = any(other.baseline == row.id for other in paper.rows(row.table))
        said = [(of_baseline(ours) if is_baseline else "") if ours.n else "not run" for ours in found]
        judged = [(NOT_RUN, each) for each in said]
    else:
        judged = []
        for ours, verdict in zip(found, verdicts(comparison, tier, reduction, results), strict=True):
            without = f"{words(row, 'undecided')} (no run of {row.baseline} with its seed)"
            judged.append((verdict, words(row, verdict) if verdict.n else without if ours.n else "not run"))
    if tier == "paper":
        numbers = [beside_the_paper(ours) for ours in found]
        judged = [
            (verdict, f"{number}; {said}".removesuffix("; ") if number.n else said)
            for number, (verdict, said) in zip(numbers, judged, strict=True)
        ]
    return judged


def ending(ours):
    """How a Summary's runs end: they "fail" or "learn", all of them, or "differ by seed"; else "not run"."""
    failed = [has_failed(record, ours.tier) for record in ours.records]
    return "not run" if not failed else "fail" if all(failed) else "differ by seed" if any(failed) else "learn"


def _summed_up(found):
    """Which settings of a row fail, as Table 1 sums six of them up: "fail: 0 to -5"."""
    kinds = {"fail": [], "learn": [], "differ by seed": [], "not run": []}
    for ours in found:
        kinds[ending(ours)].append(ours.setting)
    if len(kinds["fail"]) == len(found):
        return f"fail: {found[0].setting} to {found[-1].setting}"
    return "; ".join(f"{kind}: {', '.join(settings)}" for kind, settings in kinds.items() if settings)


def compared(row, tier, reduction=Reduction(), results=None):
    """(the row's Summary, its baseline's Summary or None) in one tier, for a row of one recipe."""
    ours = summarise(row, tier, reduction, results)
    if row.baseline is None:
        return ours, None
    (baseline,) = paper.rows(row.table, [row.baseline])
    return ours, summarise(baseline, tier, reduction, results)


def pairs(row, tier, reduction=Reduction(), results=None):
    """How many seeds a row and its baseline share in a tier; of a row of several recipes, the one that has fewest."""
    compared = [row, *(paper.rows(row.table, [row.baseline]) if row.baseline else [])]
    found = [each for one in compared for each in summaries(one, tier, reduction, results)]
    common = [{record["seed"] for record in summary.records} for summary in found]
    return min(len(seeds & common[-1]) for seeds in common)


def covered(rows, tier, results=None):
    """The number of runs, in a tier, of each of the rows that has been run in it: of its recipe that has the fewest."""
    counts = [min(summary.n for summary in summaries(row, tier, results=results)) for row in rows]
    return [n for n in counts if n]


def nearest(row, results=None):
    """The (tier, reduction) nearest to the paper's in which a row is compared with its baseline; None if in none.

    The first with ENOUGH pairs of runs, or where none has them, that with the most. A cut of depth or width is another
    network, and none of them.
    """
    found = [
        (tier, cut)
        for tier, cut in reversed(records.settings([row], results))
        if cut.depth is None and cut.width is None
    ]
    found.sort(key=lambda setting: (-[*TIERS].index(setting[0]), setting[1] != Reduction()))
    counted = {setting: pairs(row, *setting, results) for setting in found}
    enough = [setting for setting in found if counted[setting] >= ENOUGH]
    return (enough or sorted((each for each in found if counted[each]), key=lambda each: -counted[each]) or [None])[0]


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
        "The verdict compares runs of the same seed and gives the mean difference in points with its 95 % interval."
    )


def text(table, tier, reduction=Reduction(), ids=(), results=None, width=None):
    """The table as aligned plain text, with heading and note.

    width: of the terminal, in characters. A wider table has its verdicts, and what else is long, under its lines.
    """
    header, *lines = cells(table, tier, reduction, ids, results)
    shown = _ruled(header, lines)
    if width and max(map(len, shown)) > width:
        shown = _narrow(header, lines, width)
    heading = fill(title(table, tier, reduction), width) if width else title(table, tier, reduction)
    return "\n".join([heading, "", *shown, "", fill(note(table, tier), 80)])


def _narrow(header, lines, width, longest=24):
    short = [
        [cell if len(cell) <= longest or not place else "" for place, cell in enumerate(line[:-1])] for line in lines
    ]
    first, rule, *rows = _ruled(header[:-1], short)
    shown = [first, rule]
    for row, kept, line in zip(rows, short, lines, strict=True):
        beneath = [cell for cell in line if cell and cell not in kept]
        shown += [row, *(fill(cell, width, initial_indent="    ", subsequent_indent="    ") for cell in beneath)]
    return shown


def _ruled(header, lines):
    rule = ["-" * max(map(len, column)) for column in zip(header, *lines, strict=True)]
    return grids.plain([header, rule, *lines])
