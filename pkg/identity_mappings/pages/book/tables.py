"""The pages of the paper's tables: each row once with its best evidence, the rest folded, a chart, a line a variant.

All is made from `paper` and the records, so that a new record changes the pages without an edit. Rows are called by the
paper's words; their ids are in addresses and commands only.
"""

import re
import statistics

from ... import grids
from ...experiments import paper, runs
from ...experiments.protocols import IMAGES
from ...nets.counts import parameters
from ...results import tables as results_tables
from ...results import verdicts
from ...results.quantities import ERROR, FINAL_LOSS
from ...results.statistics import summarise
from .. import figures, pictures
from ..published import download
from ..show import markdown, verdict_words
from . import evidence

NOT_RUN = "not run"


def address(row):
    """A row's page, relative to the book's folder."""
    return f"rows/table-{row.table}/{row.id}.md"


# --- the table of a page


def table(number, results=None):
    """A table's rows with the paper's number, ours in the best tier and the verdict; then the other tiers, folded."""
    rows = paper.rows(number)
    found = {row.id: evidence.best(row, results) for row in rows}
    ran = [each for each in found.values() if each]
    scales = list(dict.fromkeys(each.scale for each in ran))
    errors = "Top-1 / top-5 errors in percent" if number == 5 else "Errors in percent"
    said = f"{errors}. {_of_scales(ran)}" if ran else f"{errors}, as the paper prints them."
    if len(ran) < len(rows):
        said += " A row that has no runs leads to the command for them."
    parts = [grids.captioned(said, *_main(number, rows, found, len(scales) > 1))]
    if not ran:
        parts.append(f"No row of Table {number} has been run here yet.")
    if folded := _others(rows, found, results):
        parts.append(folded)
    return markdown("\n\n".join(parts))


def _of_scales(ran):
    where = "; ".join(f"{scale}: {images}" for scale, images in _images(ran).items())
    return (
        f"Ours is the median of n runs, with mean ± standard deviation in brackets ({where}). Only the paper tier's "
        "numbers are comparable with the paper's; in the others a row is compared with its baseline. Each number "
        "leads to its runs."
    )


def _images(ran):
    """{scale: the images that its runs were trained on, in words}."""
    return {each.scale: " and ".join(sorted({one.images for one in ran if one.scale == each.scale})) for each in ran}


def _main(number, rows, found, with_tier):
    """(header, lines) of a table: the columns that have something to say."""
    lines = []
    for row in rows:
        ran = found[row.id]
        about = {"case": row.name(), "Fig.": row.figure.removeprefix("Fig. "), "the paper": row.published}
        if number == 4:
            about = {"case": _without_data(row), "data": IMAGES[row.dataset], "parameters": _millions(row)}
            about |= {"the paper": row.published}
        if number == 5:
            about = {"case": row.name(), "Fig.": about["Fig."], "augmentation": row.protocol.augmentation}
            about |= {"the paper": row.published}
        if not ran:
            about["case"] = f"[{about['case']}]({address(row)})"
        for place, line in enumerate(_summary_first(ran.lines()) if ran else [None]):
            several = place > 0  # one of the recipes that the row sums up
            lines.append(
                (
                    about
                    if not several
                    else {"case": f"&emsp;{_variant(row, line.name.partition('/')[2])}", "Fig.": "", "the paper": ""}
                )
                | {"ours": f"[{line.error}]({address(row)})" if line else NOT_RUN, "n": line.n if line else ""}
                | ({"tier": ran.scale.replace(" tier", "") if ran else ""} if with_tier else {})
                | {"verdict": verdict_words(row, line) if line else ""}
            )
    if number == 4:
        lines += [
            {"case": f"{each.method}, quoted", "data": IMAGES[each.dataset], "the paper": f"{each.error:.2f}"}
            for each in paper.CITED
            if each.dataset in {row.dataset for row in rows}
        ]
        lines.sort(key=lambda line: (line["data"] != "CIFAR-10", -float(str(line["the paper"]).split()[0])))
    if not any(found.values()):
        lines = [{key: cell for key, cell in line.items() if key not in ("ours", "n", "verdict")} for line in lines]
    keys = dict.fromkeys(key for line in lines for key in line)
    columns = [key for key in keys if any(line.get(key) for line in lines)]
    return columns, [[line.get(column, "") for column in columns] for line in lines]


def _summary_first(lines):
    """The sum of a row's recipes before the recipes themselves."""
    return [lines[-1], *lines[:-1]]


def _variant(row, variant):
    """One of a row's recipes, by what sets it apart: "init $b_g = -3$"."""
    return row.name(variant).removeprefix(f"{row.case} ").strip("()")


def variant_name(summary):
    """The same of a Summary."""
    return _variant(summary.row, summary.variant)


def _without_data(row):
    return row.name().partition(", ")[2]


def _millions(row):
    return f"{parameters(row.networks['']) / 1e6:.1f} M"


def _others(rows, found, results):
    """The numbers of every other tier, one folded table each."""
    settings = {}
    for row in rows:
        for each in evidence.of_table(row, results):
            if each != found[row.id]:
                settings.setdefault(each.scale, []).append(each)
    parts = []
    for scale, each in settings.items():
        lines = []
        for one in each:
            for line in _summary_first(one.lines())[:1]:
                lines.append((_on(one), f"[{line.error}]({address(one.row)})", line.n, verdict_words(one.row, line)))
        caption = f"Test error in percent, {scale}: {_images(each)[scale]}. Not comparable with the paper's numbers."
        count = f"{len(each)} row" + "s" * (len(each) > 1)
        inner = grids.captioned(caption, ("case", "ours", "n", "verdict"), lines)
        parts.append(f"::::{{dropdown}} {scale[0].upper()}{scale[1:]}: {count}\n{inner}\n::::")
    return "\n\n".join(parts)


def _on(one):
    """A row's name with the images that it was really trained on."""
    return one.row.name().replace(IMAGES[one.row.dataset] + ",", f"{one.images},")


def convergence(results=None):
    """Table 3's pairs at the end of training: both units' loss and test error, medians, in each tier that has both."""
    lines = []
    for ours in (row for row in paper.rows(3) if row.baseline):
        pair = (*paper.rows(3, [ours.baseline]), ours)
        for tier, cut in figures.settings(pair, results):
            found = [summarise(row, tier, cut, results) for row in pair]
            above = verdicts.Comparison(3, ours.id, "above", ours.baseline, FINAL_LOSS)
            higher, lower = (verdicts.verdict(each, tier, cut, results) for each in (above, verdicts.claimed(ours)))
            name = f"{ours.case.removesuffix(', full pre-activation')}, {results_tables.tier_words(tier, cut)}"
            lines.append((name, _both(FINAL_LOSS, found, ".3f"), higher, _both(ERROR, found, ".2f"), lower))
    if not lines:
        return markdown("Not run: no pair has both of its runs in one tier.")
    said = "Original → pre-activation at the last iteration, medians over the runs. Each number leads to its runs."
    header = ("pair", "training loss", "is it higher?", "test error, %", "is it lower?")
    return markdown(grids.captioned(said, header, lines))


def _both(quantity, found, form):
    """The medians of a pair's Summaries, each a link to its row's page."""
    medians = [statistics.median(map(quantity.of, summary.records)) for summary in found]
    shown = zip(medians, found, strict=True)
    return " → ".join(f"[{median:{form}}]({address(summary.row)})" for median, summary in shown)


# --- the records of a study, which has no pages of rows


def study_records(name, results=None):
    """The runs of a study, folded: a line a setting and tier, each seed a record to download."""
    lines = []
    for row in (row for row in paper.rows(name) if runs.place(row, "")[0] == row):
        for each in evidence.of_row(row, results):
            (summary,) = each.summaries
            made = [runs.Run(row, "", each.tier, record["seed"], each.reduction) for record in summary.records]
            links = " ".join(f"{run.seed}: {download(run, results)}" for run in made)
            lines.append((row.name(), each.scale, links))
    if not lines:
        return markdown("No run of its own has been recorded.")
    inner = grids.captioned("Every run of the settings above, by its seed.", ("setting", "tier", "records"), lines)
    return markdown(f"::::{{dropdown}} The records behind these numbers\n{inner}\n::::")


# --- the chart of a page

WORDS = {  # of a verdict: (colour, filled)
    "seen": pictures.COLOURS[2],
    "contradicted": pictures.COLOURS[1],
    "undecided": pictures.COLOURS[0],
    "untrained": pictures.FAINT,
    NOT_RUN: pictures.FAINT,
}


def points(number, results=None):
    """[(row, Evidence, Summary, Verdict, mean, half)] of a table's rows that can be compared with their baseline."""
    found = []
    for row in paper.rows(number):
        ran = evidence.best(row, results) if row.baseline else None
        for summary, verdict, mean, half in ran.differences() if ran else ():
            if mean is not None and verdict is not None:
                found.append((row, ran, summary, verdict, mean, half))
    return found


def papers_difference(row):
    """The paper's error less its baseline's, in points; None where it prints a failure."""
    (baseline,) = paper.rows(row.table, [row.baseline])
    return None if row.published.fails else row.published.error - baseline.published.error


def forest(number, results=None):
    """A Picture: the difference of each row to its baseline with its 95 % interval, and the paper's as a mark."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullLocator

    found = points(number, results)
    if not found:
        return markdown(f"No row of Table {number} has been run together with its baseline yet: there is no chart.")
    drawing = pictures.figure(pictures.WIDTH, 0.9 + 0.38 * len(found))
    axis = drawing.add_subplot()
    axis.axvline(0, color=pictures.INK, linewidth=0.9)
    reach = max(abs(bound) for *_, mean, half in found for bound in (mean - (half or 0), mean + (half or 0)))
    for height, (row, _, _, verdict, mean, half) in enumerate(found):
        colour = WORDS[verdict.word]
        if half is not None:
            axis.plot([mean - half, mean + half], [height, height], color=colour, linewidth=2.2)
        axis.plot(mean, height, "o", color=colour, markersize=7, markerfacecolor=colour if half is not None else "none")
        theirs = papers_difference(row)
        if theirs is None:
            axis.annotate("fail", (1.0, height), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", color=pictures.INK, size=9)  # fmt: skip
        else:
            reach = max(reach, abs(theirs))
            axis.plot(theirs, height, "D", color=pictures.INK, markersize=5, markerfacecolor="none")
    labels = [pictures.wrapped(_label(row, summary), 24) for row, _, summary, *_ in found]
    axis.set_yticks(range(len(found)), labels, size=9)
    axis.set(ylim=(len(found) - 0.4, -0.6), xlabel="points of test error above the baseline: left is better")
    axis.set_xscale("symlog", linthresh=1, linscale=0.6)
    ticks = [tick for tick in (1, 3, 10, 30, 90) if tick <= 1.3 * reach]
    left = max((-bound for *_, m, h in found for bound in (m - (h or 0),)), default=0)
    axis.set_xticks(sorted([-t for t in ticks if t <= 1.3 * max(left, 1)] + [0, *ticks]))
    low, high = axis.get_xlim()
    axis.set_xlim(1.3 * low, 1.3 * high)  # no mark lies on the frame
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    axis.xaxis.set_minor_locator(NullLocator())
    pictures.plain(axis)
    axis.grid(axis="x", color=pictures.FAINT, alpha=0.35, linewidth=0.6)
    used = {(verdict.word, half is not None) for *_, verdict, _, half in found}
    handles = [_handle(word, interval) for word in WORDS for interval in (True, False) if (word, interval) in used]
    if any(papers_difference(row) is not None for row, *_ in found):
        mark = {"marker": "D", "markerfacecolor": "none", "linestyle": ""}
        handles.append(Line2D([], [], color=pictures.INK, label="the paper", **mark))
    pictures.legend(drawing, handles)
    return pictures.Picture(drawing, _in_words(found), _numbers(found), f"table-{number}-differences", _caption(found))


def _handle(word, interval):
    """A verdict's mark in the legend: as it is drawn with an interval, or with none."""
    from matplotlib.lines import Line2D

    colour = WORDS[word]
    if interval:
        return Line2D([], [], color=colour, marker="o", linewidth=2.2, label=word)
    return Line2D([], [], color=colour, marker="o", markerfacecolor="none", linestyle="", label=f"{word}, one pair")


def _label(row, summary):
    words = row.name(summary.variant).replace("constant scaling", "scaling").replace(" and ", ", ")
    words = re.sub(r" on the shortcut| on F|init ", "", words).replace("full pre-activation", "full pre-act.")
    return words.replace("this is a plain net", "plain net")


def _in_words(found):
    said = []
    for row, _, summary, verdict, mean, half in found:
        about = f"{mean:+.1f} points, one pair of runs" if half is None else f"{mean:+.1f} ± {half:.1f} points"
        said.append(f"{row.plain_name(summary.variant)}: {about}, {verdict.word}")
    return f"Differences of test error to the baseline: {'; '.join(said)}."


def _caption(found):
    scales = " and ".join(f"{scale} ({images})" for scale, images in _images([ran for _, ran, *_ in found]).items())
    single = [half is None for *_, half in found]
    interval = "with the 95 % interval over runs of the same seed"
    parts = [f"How far each row lies from its baseline here, {scales}" + ("." if all(single) else f", {interval}.")]
    if any(single):
        parts.append("An open circle is a single pair of runs: it has no interval and decides nothing.")
    theirs = [papers_difference(row) for row, *_ in found]
    if any(each is not None for each in theirs):
        parts.append("The diamond is the paper's difference at full size.")
    if any(each is None for each in theirs):
        parts.append("Where the paper prints a failure and no number, its word stands at the edge.")
    return " ".join([*parts, "What should agree is the side of the line, not the distance."])


def _numbers(found):
    header = ("row", "tier", "pairs", "difference", "half of the 95 % interval", "verdict", "the paper's difference")
    lines = [
        (row.plain_name(summary.variant), ran.scale, verdict.n, f"{mean:.3f}", "" if half is None else f"{half:.3f}",
         verdict.word, papers_difference(row))
        for row, ran, summary, verdict, mean, half in found
    ]  # fmt: skip
    return dict(zip(header, zip(*lines, strict=True), strict=True))


# --- a paragraph a variant

MEANS = {
    "contradicted": "The order is not the paper's in this setting, which is smaller and shorter than the paper's.",
    "undecided": "These runs are too few to tell.",
    "untrained": "As the baseline did not learn in this setting, this says nothing of the row.",
}


def seen(number, *ids, results=None):
    """What was seen of some rows of a table, a Markdown list of their best evidence."""
    lines = []
    for row in paper.rows(number, ids):
        ran = evidence.best(row, results)
        if ran is None:
            lines.append(f"- {row.name()}: the paper has {published(row)}; not run here.")
            continue
        line = ran.lines()[-1]
        words = verdict_words(row, line)
        unit = "" if len(row.networks) > 1 else " %"  # of several recipes the line sums up which of them fail
        several = max(summary.n for summary in ran.summaries) > 1  # one run of each decides nothing, as the words say
        meaning = _meaning(row, ran, _word(row, line)) if several else ""
        lines.append(
            f"- {row.name()}: the paper has {published(row)}; here [{line.error}{unit}]({address(row)}), n = {line.n}, "
            f"{ran.scale}" + (f"; {words}." if words else ".") + (f" {meaning}" if meaning else "")
        )
    return markdown("\n".join(lines))


def _meaning(row, ran, word):
    """What a verdict's word means for a reader, in a sentence; "" where it explains itself."""
    if (
        word == "undecided"
        and row.claim == "fails"
        and [*map(results_tables.ending, ran.summaries)] == ["differ by seed"]
    ):
        return "Here it depends on the seed whether it fails."
    return MEANS.get(word, "")


def _word(row, line):
    """What a table's Line says of the row's ordering, in one word."""
    return next((word for word in WORDS if f": {word}" in verdict_words(row, line)), NOT_RUN)


def orderings(number, results=None):
    """Every ordering that the paper states in a table, by what the runs here say of it, in one paragraph."""
    said = {word: [] for word in WORDS}
    for row in (row for row in paper.rows(number) if row.claim):
        ran = evidence.best(row, results)
        line = ran.lines()[-1] if ran else None
        runs_of = f" (n = {line.n})" if line else ""
        said[_word(row, line) if line else NOT_RUN].append(f"{row.name()}: {row.claim}{runs_of}")
    always = ("seen", "contradicted")
    told = [
        f"*{word.capitalize()}*: {'; '.join(names) or 'none'}."
        for word, names in said.items()
        if names or word in always
    ]
    return markdown(f"**The paper's orderings, and what the runs here say of them.** {' '.join(told)}")


def published(row):
    """The paper's number as a sentence has it."""
    if row.published.fails:
        return "*fail*"
    return f"{row.published} %" + (" (top-1 / top-5)" if row.published.top5 is not None else "")
