"""What watched runs show of section 4.2, as pictures and tables for the book; "not run" where nobody watched.

Where a row was watched with several seeds, a line is the median over them, unit by unit.
"""

import statistics
from itertools import zip_longest

from .. import grids
from ..experiments import paper
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import Run, place
from ..results import records, tables, watching
from ..results.quantities import TRUNCATED
from ..results.statistics import learnt
from ..results.verdicts import Comparison, Outcome, Verdict, judge, runs, verdict
from ..training.watched import MOMENTS
from . import published
from .pictures import COLOURS, FAINT, MARKS, WIDTH, Picture, figure, gaps, plain
from .plots import unit_colour

TABLE = 3
NETS = {"ResNet-164": "cifar10-164", "ResNet-1001": "cifar10-1001"}
UNITS = {"original": "original", "pre-activation": "full pre-activation"}  # in an id, in words


def settings(results=None):
    """[(tier, reduction)] in which any of the rows was watched: most rows first, then nearest to the paper."""
    rows = [_row(net, unit) for net in NETS for unit in UNITS]

    def watched(*of):
        return watching.seen(*of).n > 0

    def rank(setting):
        tier, cut = setting
        return -sum(watched(row, *setting, results) for row in rows), -[*TIERS].index(tier), cut != Reduction()

    return sorted(records.settings(rows, results, watched), key=rank)


def seen(net, unit, results=None):
    """The `watching.Seen` of a net's row in the first of the settings; None where there is none."""
    chosen = settings(results)
    return watching.seen(_row(net, unit), *chosen[0], results) if chosen else None


def _row(net, unit):
    return paper.rows(TABLE, [f"{NETS[net]}-{unit}"])[0]


def medians(found, field):
    """{iteration: the field by unit} of a `Seen`, its median over the runs; empty where there are none."""
    if found is None or not found.n:
        return {}
    taken = {}
    for moment in zip(*(record["units"] for record in found.records), strict=True):
        over_runs = zip(*(each[field] for each in moment), strict=True)
        taken[moment[0]["iteration"]] = [None if None in each else statistics.median(each) for each in over_runs]
    return taken


def words(results=None):
    """Of which recipe the numbers are, in words."""
    chosen = settings(results)
    return tables.tier_words(*chosen[0]) if chosen else "not run"


def truncation(results=None):
    """A Picture: the share of y_l that the original unit's ReLU sets to zero, by unit, as training goes on."""
    lines = {net: medians(seen(net, "original", results), "truncated") for net in NETS}
    series = {
        net: {_after(at): [100 * share for share in shares] for at, shares in taken.items()}
        for net, taken in lines.items()
    }
    alt = f"""Percent of the sum that the ReLU after the addition sets to zero, at each unit of the original ResNet-164
    (above) and ResNet-1001 (below), {words(results)}, before training and at moments of it. {_means(series)}"""
    caption = f"""The share of the sum that the original unit's ReLU sets to zero, unit by unit, as training goes on
    ({words(results)}). A new stage starts at each jump. The lines to compare are the last ones of the two nets."""
    return _panels(series, alt, caption, "truncation-in-training", "percent of y truncated")


def gradients(results=None):
    """A Picture: the norm of dE/dx_l by unit before training and at its end, for both units."""
    series = {}
    for net in NETS:
        series[net] = {}
        for unit in UNITS:
            taken = medians(seen(net, unit, results), "gradient")
            for at in list(taken)[:: len(taken) - 1 or 1]:
                series[net][f"{unit}, {_after(at)}"] = taken[at]
    alt = f"""Gradient norm at each unit's input, on a logarithmic axis, in ResNet-164 (above) and ResNet-1001 (below),
    {words(results)}, for the original and the pre-activation unit, before training and at its end."""
    caption = f"""The gradient's norm at each unit before training and at its end ({words(results)}). The flatter a
    line, the better one learning rate suits all units."""
    return _panels(series, alt, caption, "gradients-in-training", "norm of dE/dx", log=True)


def _after(iteration):
    return f"after {iteration:,} iterations" if iteration else "before training"


def _means(series):
    said = [
        f"{net}: on average {statistics.mean(first):.0f} percent at first and {statistics.mean(last):.0f} at the end"
        for net, taken in series.items()
        if taken
        for first, *_, last in [list(taken.values())]
    ]
    return "; ".join(said) + "."


def _panels(series, alt, caption, name, ylabel, log=False):
    """A panel a net, one above the other, its lines over the units; a net without lines says "not run".

    A line that is named after a unit has its colour, at the end of training as a whole line; others go by place.
    """
    drawing = figure(WIDTH, 6.4)
    data = {"unit": list(range(max((len(v) for taken in series.values() for v in taken.values()), default=0)))}
    for axis, (net, taken) in zip(drawing.subplots(len(series), 1, sharey=True), series.items(), strict=True):
        for position, (label, values) in enumerate(taken.items()):
            style = {"color": COLOURS[position], "marker": MARKS[position], "markevery": max(1, len(values) // 9)}
            if (unit := label.partition(",")[0]) in UNITS:
                style |= {"color": unit_colour(UNITS[unit]), "linestyle": "--" if "before" in label else "-"}
            axis.plot(gaps(values), label=label, linewidth=1.3, markersize=4, **style)
            data[f"{net}, {label}"] = [value for _, value in zip_longest(data["unit"], values)]
        if taken:
            axis.legend(frameon=False, fontsize=9)
        else:
            axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", color=FAINT)
            axis.set_xticks([])
        axis.set(title=net, ylabel=ylabel, yscale="log" if log else "linear")
        axis.margins(x=0.01)
        plain(axis)
    axis.set_xlabel("unit l")
    return Picture(drawing, alt, data, name, caption)


def course(results=None):
    """What f truncates as training goes on, in percent, as a Markdown table: means over a stage, and over all units."""
    lines = []
    for net in NETS:
        for unit in UNITS:
            found = seen(net, unit, results)
            if found is None or not found.n:
                diverged = f" ({found.diverged} diverged)" if found and found.diverged else ""
                lines.append((_whole(net), UNITS[unit], "all", "not run" + diverged, *[""] * (len(MOMENTS) + 1)))
                continue
            taken = medians(found, "truncated")
            at = [taken.get(int(max(taken) * moment)) for moment in MOMENTS]
            error = statistics.median(record["test_error"] for record in found.records)
            for stage in ("1", "2", "3", "all") if unit == "original" else ("all",):
                cells = [f"{100 * statistics.mean(_of(stage, shares)):.1f}" if shares else "" for shares in at]
                lines.append((_whole(net), UNITS[unit], stage, found.n, *cells, f"{error:.1f}"))
    header = ("net", "unit", "stage", "n", *map(_moment, MOMENTS), "test error, %")
    caption = "The share of y that f sets to zero, in percent, at five moments of training: means over a stage's units."
    return grids.captioned(caption, header, lines)


def _whole(net):
    """The net's name for a narrow column, which breaks no name in two."""
    return net.replace("-", "\N{NON-BREAKING HYPHEN}")


def _of(stage, values):
    """The values of a stage's units; stages are of equal length in every CIFAR net."""
    if stage == "all":
        return values
    each = len(values) // 3
    return values[(int(stage) - 1) * each : int(stage) * each]


def _moment(share):
    return {0: "at first", 1: "at the end"}.get(share, f"at 1/{1 / (share or 1):.0f}")


def said(results=None):
    """Section 4.2's two observations of the original unit and whether they are seen in these runs, in Markdown.

    They are held against the mean over all units. The last stage, where training changes most, has a line without a
    verdict, for the paper says nothing of it.
    """
    found = {net: seen(net, "original", results) for net in NETS}
    shares = {net: list(medians(one, "truncated").values()) for net, one in found.items()}
    means = {net: [100 * statistics.mean(each) for each in taken] for net, taken in shares.items()}
    shallow, deep = means.values()
    rarer, deeper = "not run", "not run"
    if shallow:
        rarer = f"from {shallow[0]:.1f} % before training to {shallow[-1]:.1f} % at its end, the mean over the units"
        rarer += f": {_less_than_before(found['ResNet-164'].records)}"
    if shallow and deep:
        deeper = f"{deep[-1]:.1f} % at the end, against {shallow[-1]:.1f} %"
        deeper += f": {verdict(_DEEPER, *settings(results)[0], results)}"
    lines = [
        f"*Training makes truncation rarer at 164 layers*: {rarer}.",
        f"*It stays more frequent at 1001*: {deeper}.",
    ]
    late = {
        net: [100 * statistics.mean(_of("3", each)) for each in taken[-2:]] for net, taken in shares.items() if taken
    }
    if late:
        changes = [f"from {before:.1f} to {after:.1f} % in {net}" for net, (before, after) in late.items()]
        lines.append(f"The last stage alone, over the last three quarters of training: {', '.join(changes)}.")
    return "\n".join(f"- {line}" for line in lines)


_DEEPER = Comparison(3, "cifar10-164-original", "below", "cifar10-1001-original", TRUNCATED)


def _less_than_before(found):
    """The Verdict on truncation being rarer at the end of watched runs than before, in points of its mean share."""
    if without := sum(not learnt(record) for record in found):
        return Verdict("untrained", len(found), f"{without} of {runs(len(found))}")
    first, last = ([Outcome(100 * _share(record, at)) for record in found] for at in (0, -1))
    return judge("below", last, first, least=0.0)


def _share(record, at):
    """The mean share of y_l that f sets to zero, over the units, at one of the moments that were watched."""
    return statistics.mean(record["units"][at]["truncated"])


def provenance(results=None, folder=None):
    """Where the numbers come from, a Markdown line a run, with the record to download.

    folder: of the page, from which the records' addresses are told; the book's by default.
    """
    lines = []
    for net in NETS:
        for unit in UNITS:
            found = seen(net, unit, results)
            for record in found.records if found else ():
                at = f"{record['device']}, {record['precision']}, torch {record['versions']['torch']}"
                home, (tier, cut) = place(found.row, record["variant"]), settings(results)[0]
                run = Run(*home, tier, record["seed"], cut, watched=True)
                lines.append(
                    f"- {net}, {UNITS[unit]}, seed {run.seed}: {published.download(run, results, folder)}, recipe "
                    f"{record['recipe_hash']}, commit {published.commit_link(record['commit'])}, {at}, "
                    f"{record['images']} images, {record['wall_seconds']:,.0f} seconds"
                )
    return "\n".join(lines) or "Not run."
