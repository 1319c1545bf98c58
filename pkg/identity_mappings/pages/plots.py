"""Training curves in the manner of the paper's Figs. 3 and 6; a search; the benches of the trainer."""

import statistics
import textwrap
from itertools import groupby

from . import pictures

TICKS = [digit * 10.0**power for power in range(-6, 3) for digit in (1, 1.5, 2, 3, 5)]  # of a logarithmic loss


def curves(summaries, title=""):
    """A matplotlib Figure: training loss (dashed, left axis) and test error (solid, right axis) against iteration.

    summaries: `Summary`s, each with a colour of its own for all of its runs; those without runs are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = Figure(figsize=(pictures.WIDTH, 3.4), layout="constrained")
    loss_axis = figure.add_subplot()
    error_axis = loss_axis.twinx()
    shown = [summary for summary in summaries if summary is not None and summary.n]
    handles = []
    for position, summary in enumerate(shown):
        colour, strength = colour_of(summary.row, position), strength_of(summary)
        for record in summary.records:
            curve = record["curve"]
            thin = {"color": colour, "alpha": strength * (0.9 if summary.n == 1 else 0.6), "linewidth": 1.3}
            loss_axis.plot(curve["iteration"], pictures.gaps(curve["train_loss"]), linestyle="--", **thin)
            error_axis.plot(curve["iteration"], pictures.gaps(curve["test_error"]), linestyle="-", **thin)
        words = pictures.wrapped(f"{summary.row.name(summary.variant)}: {summary}", 64)
        handles.append(Line2D([], [], color=colour, alpha=strength, label=words))
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label="test error"),
        Line2D([], [], color="0.3", linestyle="--", label="training loss"),
    ]
    loss_axis.set(xlabel="iteration", ylabel="training loss", yscale="log", title=pictures.wrapped(title, 60))
    loss_axis.yaxis.set_major_locator(FixedLocator(TICKS))
    loss_axis.yaxis.set_minor_locator(NullLocator())
    loss_axis.yaxis.set_major_formatter("{x:g}")
    loss_axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    loss_axis.margins(x=0.01)
    error_axis.set(ylabel="test error (%)", ylim=(0, _top(shown)))
    error_axis.grid(axis="y", alpha=0.3)
    pictures.legend(figure, handles)
    return figure


def interactive(summaries):
    """The figure of `curves` as a plotly Figure, to hover over, zoom into and pick rows from."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    shown = [summary for summary in summaries if summary is not None and summary.n]
    for position, summary in enumerate(shown):
        colour = colour_of(summary.row, position)
        lines = textwrap.wrap(summary.row.plain_name(summary.variant) + ":", 38)  # no wider than a phone
        lines = [line.replace("b_g", "b<sub>g</sub>") for line in lines]
        words, named = " ".join(lines).removesuffix(":"), "<br>".join([*lines, str(summary)])
        for run, record in enumerate(summary.records):
            curve, first = record["curve"], run == 0
            group = {"legendgroup": summary.name, "mode": "lines"}
            about = f"{words}, seed {record['seed']}"
            loss, error = {"color": colour, "dash": "dash", "width": 1.5}, {"color": colour, "width": 1.5}
            figure.add_scatter(
                x=curve["iteration"], y=curve["train_loss"], line=loss, showlegend=False, **group,
                hovertemplate=f"{about}<br>iteration %{{x:,}}<br>training loss %{{y:.4f}}<extra></extra>",
            )  # fmt: skip
            figure.add_trace(
                Scatter(
                    x=curve["iteration"], y=curve["test_error"], line=error, name=named, showlegend=first, yaxis="y2",
                    **group, hovertemplate=f"{about}<br>iteration %{{x:,}}<br>test error %{{y:.2f}} %<extra></extra>",
                )
            )  # fmt: skip
    grey = "#7f7f7f"  # reads on a light page and on a dark one
    axis = {"color": grey, "gridcolor": "rgba(127, 127, 127, 0.25)", "zeroline": False}
    figure.update_layout(
        xaxis={"title": "iteration", **axis},
        yaxis={
            "title": "training loss (dashed)",
            "type": "log",
            "tickvals": TICKS,
            "ticktext": [f"{tick:g}" for tick in TICKS],
            **axis,
            "showgrid": False,
        },
        yaxis2={
            "title": "test error, % (solid)",
            "range": (0, _top(shown)),
            "overlaying": "y",
            "side": "right",
            "tickmode": "auto",  # its own ticks, not the loss axis's
            **axis,
        },
        legend={"orientation": "h", "y": -0.2, "font": {"color": grey}},
        margin={"l": 60, "r": 60, "t": 40, "b": 40},  # above, room for the buttons
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": grey},
        height=440,
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
    )
    return figure


# One colour a unit throughout the book: the original blue, full pre-activation orange. Table 1's shortcuts and Table
# 2's other orders never meet in one figure and share the rest.
UNITS = {
    ("original", "identity"): 0, ("full pre-activation", "identity"): 1, ("BN after addition", "identity"): 2,
    ("ReLU before addition", "identity"): 3, ("ReLU-only pre-activation", "identity"): 4,
    ("original", "scaled"): 2, ("original", "exclusive gate"): 3, ("original", "shortcut-only gate"): 4,
    ("original", "1x1 conv"): 5, ("original", "dropout"): 2,
}  # fmt: skip


def colour_of(row, position=0):
    """The colour of a row's unit; of one that has none, by its position in a figure."""
    network = next(iter(row.networks.values()))
    return unit_colour(network.order, network.shortcut.kind, position)


def strength_of(summary):
    """How opaque the lines of one of a row's recipes are, the more the later it comes; of a single one, wholly."""
    variants = list(summary.row.networks)
    return (1 + variants.index(summary.variant)) / len(variants)


def unit_colour(order, shortcut="identity", position=0):
    """The same of an order and a kind of shortcut."""
    place = UNITS.get((order, shortcut), position)
    return pictures.COLOURS[place % len(pictures.COLOURS)]


def search(summaries, title):
    """A Picture: the error of each fold, and the median, by initial bias; a diverged run stands at 100 %.

    The upright axis is linear from 0 to 1 % and logarithmic above, where the biases that fail lie far from those that
    learn.
    """
    drawing = pictures.figure(pictures.WIDTH, 3.4)
    axis = drawing.add_subplot()
    biases = [summary.row.case.rpartition("= ")[2] for summary in summaries]
    medians = [min(summary.median, 100.0) if summary.n else None for summary in summaries]
    data = {"bias": biases, "median": medians}
    for fold in sorted({record["seed"] for summary in summaries for record in summary.records}):
        errors = data[f"fold {fold}"] = [_error_of(summary, fold) for summary in summaries]
        axis.plot(pictures.gaps(errors), "o", color=pictures.COLOURS[0], alpha=0.6)
    axis.plot(pictures.gaps(medians), color=pictures.COLOURS[0])
    axis.set(xticks=range(len(biases)), xticklabels=biases, xlabel="initial bias", ylabel="validation error (%)")
    axis.set_yscale("symlog", linthresh=1, linscale=0.3)
    axis.set(ylim=(0, 100), yticks=(0, 1, 2, 5, 10, 20, 50, 100))
    axis.yaxis.set_major_formatter("{x:g}")
    pictures.plain(axis)
    said = ", ".join(
        f"{bias}: {median:.1f}" for bias, median in zip(biases, medians, strict=True) if median is not None
    )
    caption = f"""{title}. Each dot is a fold, the line their median. The upright axis is logarithmic above one percent.
    A net that does not train stays at the error of a guess, nine in ten."""
    return pictures.Picture(drawing, f"{title}. Median in percent by bias: {said}.", data, "gate-bias", caption)


def _error_of(summary, seed):
    """The test error of a seed's run, 100 for one that diverged; None where it has not been run."""
    for record in summary.records:
        if record["seed"] == seed:
            return 100.0 if record["status"] == "diverged" else record["test_error"]
    return None


def bench(outcomes):
    """A matplotlib Figure of `bench.bench`'s outcomes: a panel a case, a mark a trainer, at its times the baseline.

    Marks are medians of the rounds, whiskers reach from the smallest to the largest; one axis for all, logarithmic, as
    ratios are. Beside a panel measured on CUDA, where the floors are of the device's memory and not of caches, the
    shares of the two floors: a full mark for bytes, an open one for arithmetic.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    cases = [
        (outcome, name, [result for result in results if result["trainer"] != "baseline"])
        for outcome in outcomes
        for name, results in groupby(outcome["results"], lambda result: result["case"]["name"])
    ]
    with_floors = any(has_floors(outcome) for outcome in outcomes)
    heights = [len(results) + 1.5 for *_, results in cases]
    drawing = pictures.figure(pictures.WIDTH, 0.6 + 0.3 * sum(heights))
    grid = {"height_ratios": heights, "width_ratios": (2, 1) if with_floors else (1,)}
    axes = drawing.subplots(len(cases), 1 + with_floors, squeeze=False, sharex="col", gridspec_kw=grid)
    colour_of = {}
    for (outcome, name, results), (left, *right) in zip(cases, axes, strict=True):
        left.axvline(1.0, color=pictures.INK, linewidth=0.8)
        for place, result in enumerate(results):
            precision, ratio = result["trainer"].split(", ")[1], result["ratio"]
            colour = colour_of.setdefault(precision, pictures.COLOURS[len(colour_of) % len(pictures.COLOURS)])
            median = statistics.median(ratio)
            reach = [[median - min(ratio)], [max(ratio) - median]]
            left.errorbar(median, place, xerr=reach, color=colour, marker="o", capsize=3)
            left.annotate(f"{median:.2f}", (max(ratio), place), (6, 0), textcoords="offset points", va="center")
            if has_floors(outcome):
                shares = result["share_of_byte_floor"], result["share_of_arithmetic_floor"]
                for share, face in zip(shares, (colour, "none"), strict=True):
                    right[0].plot(100 * share, place, "o", color=colour, markerfacecolor=face)
        labels = [result["trainer"].removeprefix("ours, ") for result in results]
        left.set_yticks(range(len(results)), labels)
        left.set_title(f"{name}: {outcome['device']}", loc="left", fontsize="medium")
        for axis in (left, *right):
            axis.set_ylim(len(results) - 0.5, -0.5)  # the first above
            pictures.plain(axis)
        for axis in right:
            axis.set_yticks([])
            axis.set_visible(has_floors(outcome))
    axes[-1][0].margins(x=0.1)
    axes[-1][0].set(xlabel="times the baseline's images per second (the line: the baseline)", xscale="log")
    axes[-1][0].xaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5)))
    axes[-1][0].xaxis.set_major_formatter("{x:g}")
    axes[-1][0].xaxis.set_minor_locator(NullLocator())
    if with_floors:
        axes[-1][1].set(xlabel="share of the floor of bytes (full),\nof arithmetic (open), %", xlim=(0, None))
    return drawing


def has_floors(outcome):
    """Whether an outcome's shares of its floors say something: on a CPU most bytes move in caches."""
    return outcome.get("device_type") == "cuda"


def _top(summaries):
    """Where the error axis ends: at 20 %, as the paper's figures do, or high enough for where every run ends.

    Where that is more than half of the axis, it shows the whole curve: a run that ends there has not come far.
    """
    ends = [record["test_error"] for summary in summaries for record in summary.records]
    top = max([20, *(1.5 * end for end in ends if end is not None)])
    return top if top <= 50 else 100
