"""What the notebooks and the book display: every sentence and table with a number in it, made from `paper` and records.

Each function gives an object that Jupyter, Colab and the book render, Markdown all but the curves.
"""

import io
import json
import re
import statistics
from pathlib import Path

from .. import grids
from ..experiments import paper, protocols
from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from ..experiments.runs import place
from ..nets.networks import BRANCHES
from ..results import records, tables
from ..results.statistics import gaps, learnt, summaries, summarise
from ..results.verdicts import verdict
from . import figures, published


def markdown(*parts):
    """Markdown for Jupyter and the book, of the parts that say something."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(part for part in parts if part))


# --- of one row, for the notebooks


def result(table, row, tier, reduction=""):
    """A row's number beside the paper's, in words, with the verdict."""
    (row,) = paper.rows(table, [row])
    reduction = Reduction.parse(reduction)
    *each, ours = tables.row_lines(row, tier, reduction)
    if row.published.fails:
        said = f"the paper prints *fail*: a test error above {FAIL_ABOVE:.0f} %"
    elif row.published.top5 is not None:
        said = f"the paper reports a top-1 / top-5 error of **{row.published} %**"
    else:
        said = f"the paper reports a test error of **{row.published} %**, the median of 5 runs"
        if row.published.mean is not None:
            said += ", with mean ± standard deviation in brackets"
    remark = f" ({row.remark})" if row.remark else ""
    cut = f", reduced to {reduction}" if reduction.name else ""
    lines = [f"For *{row.case}*{remark}, {row.figure}, {said}.", f"Ours, {tier} tier{cut}: **{ours}**."]
    if ours.verdict not in ("", "not run"):
        lines.append(f"Verdict: **{ours.verdict}**.")
    if row.baseline is not None:
        (baseline,) = tables.row_lines(*paper.rows(table, [row.baseline]), tier, reduction)
        lines.append(f"Its baseline, `{row.baseline}`, in the same tier: {baseline}.")
    settings = [(f"`{line.name}`", line.error, line.n, line.verdict) for line in each]
    listed = grids.markdown(("setting", "test error, %", "n", "verdict"), settings) if settings else ""
    warning = f"**Not comparable with the paper's number.** {tables.note(table, tier).removeprefix('Percent. ')}"
    return markdown(" ".join(lines), listed, "" if tier == "paper" else warning)


def verdict_words(row, line):
    """What a table's Line says of the row, with the baseline called that and not by its id."""
    if row.baseline is None:
        return line.verdict
    return re.sub(rf"\b(than|near) {re.escape(row.baseline)}(?=:)", r"\1 the baseline", line.verdict)


def recipe(runs):
    """What was trained: data, network and schedule of the runs, which differ in seed and variant only."""
    recipes = list(dict.fromkeys(run.recipe for run in runs))
    protocol = recipes[0].protocol
    network = recipes[0].network.to_json()
    shortcuts = "; ".join(dict.fromkeys(_settings(each.network.to_json()["shortcut"]) for each in recipes))
    drops = " and ".join(f"{drop:,}" for drop in protocol.drops)
    warmup = f"{protocol.warmup_rate:g} before iteration {protocol.warmup:,}" if protocol.warmup else "none"
    lines = [
        ("data", protocols.IMAGES[recipes[0].dataset]),
        ("layers", f"{network['depth']}, {network['branch']} units, widths {', '.join(map(str, network['widths']))}"),
        ("order of activation", network["order"]),
        ("shortcut", shortcuts),
        ("iterations", f"{protocol.iterations:,} of {protocol.batch} images"),
        ("batch normalisation over", "the batch" if protocol.bn_group is None else f"{protocol.bn_group} images"),
        ("learning rate", f"{protocol.learning_rate:g}, ten times smaller from {drops}"),
        ("warm-up", warmup),
        ("momentum, weight decay", f"{protocol.momentum:g}, {protocol.weight_decay:g}"),
        ("augmentation", protocol.words),
        *_crops(protocol),
    ]
    return markdown(grids.markdown(("recipe", ""), lines))


def _crops(protocol):
    """The lines on the squares that are cut out of ImageNet's pictures; none on CIFAR."""
    if not isinstance(protocol, protocols.ImageNetProtocol):
        return []
    tests = ", ".join(f"{crop} of a shorter side of {side}" for _, side, crop in protocol.tests)
    return [("crop in training, pixels", protocol.crop), ("crops in tests", tests)]


def _settings(shortcut):
    rest = ", ".join(f"{key} = {value}" for key, value in shortcut.items() if key != "kind" and value is not None)
    return shortcut["kind"] + (f" ({rest})" if rest else "")


def provenance(table, row, tier, reduction=""):
    """Where each of the row's numbers comes from, a line a run."""
    (row,) = paper.rows(table, [row])
    found = [record for each in summaries(row, tier, Reduction.parse(reduction)) for record in each.records]
    several = len(row.networks) > 1
    header = ("seed", "status", "test error, %", "device", "commit", "torch", "wall seconds")
    lines = [
        (
            *([record["variant"]] if several else []),
            record["seed"],
            record["status"] if record["diverged_at"] is None else f"diverged at {record['diverged_at']:,}",
            "none" if record["test_error"] is None else f"{record['test_error']:.2f}",
            f"{record['device']}, {record['precision']}{_by(record)}",
            published.commit_link(record["commit"]),
            record["versions"]["torch"].replace("+", " +"),
            f"{record['wall_seconds']:,.0f}",
        )
        for record in found
    ]
    if not lines:
        return markdown("Not run.")
    return markdown(grids.markdown(("variant", *header) if several else header, lines), *_left_out(found))


def _left_out(found):
    """What the trainings could not read, counted and named; nothing on most disks."""
    damaged = sorted({message for record in found for message in record.get("damaged", ())})
    return [f"Left out of training: {len(damaged)}.", "\n".join(f"- {each}" for each in damaged)] if damaged else []


def _by(record):
    """Who ran what was contributed."""
    given = record.get("contributed")
    return f", by {given['by'] or 'a contributor'}" if given else ""


def curves(table, row, tier, reduction=""):
    """The training curves of a row and its baseline as an image; a sentence where they have too few points."""
    from IPython.display import Image

    from . import plots

    (row,) = paper.rows(table, [row])
    rows = [row, *(paper.rows(table, [row.baseline]) if row.baseline else [])]
    found = [each for one in rows for each in summaries(one, tier, Reduction.parse(reduction))]
    if missing := figures.sparse(found):
        return markdown(_not_drawn(missing))
    file = io.BytesIO()
    plots.curves(found, f"Table {table}, {row.case}, {tier} tier").savefig(file, dpi=160)
    return Image(file.getvalue(), width=720)


def _not_drawn(missing):
    return f"Not drawn: a curve needs {figures.POINTS} points, and the records have fewer: {missing}. Train them anew."


class Curves:
    """Curves that can be explored on a page, with the same as a still picture for print, and the data as CSV."""

    def __init__(self, summaries, name, title, caption):
        self.summaries, self.name, self.title, self.caption = summaries, name, title, caption

    def _repr_mimebundle_(self, include=None, exclude=None):
        import base64

        from . import pictures, plots

        file = io.BytesIO()
        plots.curves(self.summaries, self.title).savefig(file, dpi=160)
        picture = base64.b64encode(file.getvalue()).decode()
        plot = plots.interactive(self.summaries).to_html(
            full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
        )
        typeset = self.caption.replace("b_g", "b<sub>g</sub>")
        alt = f"{self.title}: training loss and test error by iteration of {self._names()}"
        html = (
            f'<figure class="curves-figure"><div class="curves" role="group" aria-label="{alt}">{plot}</div>'
            f'<img class="curves-in-print" alt="{alt}" src="data:image/png;base64,{picture}">'
            f"{pictures.caption(typeset, pictures.csv_link(self.name, self.csv()))}</figure>"
        )
        return {"text/html": html, "image/png": picture, "text/plain": alt}

    def _names(self):
        return " and ".join(summary.row.plain_name(summary.variant) for summary in self.summaries)

    def csv(self):
        """Every point of the curves: table, row, seed, then the columns of a record's curve."""
        from .pictures import as_csv

        columns, lines = list(next(record for summary in self.summaries for record in summary.records)["curve"]), []
        for summary in self.summaries:
            for record in summary.records:
                place = (summary.row.table, summary.row.id, record["seed"])
                points = zip(*(record["curve"][column] for column in columns), strict=True)
                lines += [(*place, *point) for point in points]
        return as_csv(("table", "row", "seed", *columns), lines)


def figure(name):
    """One of the paper's training curves from the records nearest to the paper's; a sentence where there are none."""
    panel = figures.figure(name)
    paper_sees = f"What the paper sees: {panel.claim[0].lower()}{panel.claim[1:]}"
    drawn = panel.drawn()
    if not drawn:
        settings = panel.settings()
        why = (
            _not_drawn(figures.sparse(panel.summaries(*settings[0])))
            if settings
            else "Not drawn: no tier has runs of both."
        )
        return markdown(f"*{panel.title}*. {paper_sees} {why}")
    tier, reduction = drawn[0]
    images = protocols.IMAGES[protocols.recipe(panel.compared()[0].recipe(), tier, reduction).dataset]
    title = f"{panel.title} ({tables.tier_words(tier, reduction)}: {images})"
    said = [
        f"{row.plain_name()}: {verdict_words(row, tables.row_lines(row, tier, reduction)[-1])}"
        for row in panel.compared()
    ]
    losses = "".join(f" {_in_loss(comparison, tier, reduction)}" for comparison in panel.losses())
    errors = f"In test error, here: {'; '.join(said)}."
    caption = f"{title}. {paper_sees}{losses} {errors}{_sampled(panel, tier, reduction)}"
    return Curves(panel.summaries(tier, reduction), f"figure-{name}-{tier}", title, caption)


def _in_loss(comparison, tier, reduction):
    """What the runs say of a comparison of training losses, in a sentence for a caption."""
    row, base = (one.plain_name() for one in comparison.rows)
    said = verdict(comparison, tier, reduction)
    return f"In {comparison.quantity.name}, here: {row} {comparison.relation} {base}: {said}."


def _sampled(panel, tier, reduction):
    """What is to be known of a curve whose points, but the last, count on a part of the test images."""
    found = [record for summary in panel.summaries(tier, reduction) for record in summary.records]
    counts = sorted({record["curve_test_images"] for record in found if "curve_test_images" in record})
    return f" Test errors before the last point are of the first {counts[0]:,} test images." if counts else ""


def benches(folder):
    """The tables of the benches whose JSON files lie in a folder, each with the device that it was measured on."""
    parts = []
    for outcome in _outcomes(folder):
        lines = [
            (
                result["case"]["name"],
                result["trainer"],
                _median_and_range(result["images_per_second"], ",.0f"),
                _median_and_range(result["ratio"], ".2f"),
            )
            for result in outcome["results"]
        ]
        rounds = f"{outcome['repeats']} rounds of {outcome['seconds']:g} seconds"
        about = (
            f"{outcome['device']}, {outcome['cores']} cores, torch {outcome['versions']['torch']}; {rounds}; "
            f"{outcome['data']}. The baseline: {outcome['baseline']}."
        )
        header = ("network", "trainer", "images/s, median (range)", "times the baseline, median (range)")
        parts.append(grids.captioned(about, header, lines))
    return markdown(*parts) if parts else markdown("Not measured.")


def bench_chart(folder):
    """The same benches as one picture, with their numbers as its text and as CSV; see `plots.bench`."""
    from . import pictures, plots

    outcomes = _outcomes(folder)
    if not outcomes:
        return markdown("Not measured.")
    said, lines = ["Images per second as a multiple of the baseline's, median and range of the rounds."], []
    for outcome in outcomes:
        for result in outcome["results"]:
            ratio = result["ratio"]
            place = result["case"]["name"], outcome["device"], result["trainer"]
            shares = result["share_of_byte_floor"], result["share_of_arithmetic_floor"]
            known = plots.has_floors(outcome)
            lines.append((*place, statistics.median(ratio), min(ratio), max(ratio), *(shares if known else ("", ""))))
            if result["trainer"] != "baseline":
                floors = ", of the byte floor {:.0%}, of the arithmetic floor {:.0%}".format(*shares) if known else ""
                said.append(f"{', '.join(place)}: {_median_and_range(ratio, '.2f')}{floors}.")
    header = ("network", "device", "trainer", "times the baseline", "smallest", "largest", "of bytes", "of arithmetic")
    data = dict(zip(header, zip(*lines, strict=True), strict=True))
    caption = """Images per second as a multiple of the baseline's: the mark is the median of the rounds, the bar
    reaches from the smallest to the largest. What lies to the right of the line is faster than the baseline."""
    return pictures.Picture(plots.bench(outcomes), " ".join(said), data, "bench", caption)


def aims(folder):
    """What the trainer was to reach on two CPU cores, and whether the benches of the folder say that it does."""
    from ..machines import bench

    header, lines = ("network", "trainer", "aim", "measured, median (range)", "reached"), []
    measured = [
        result
        for outcome in _outcomes(folder)
        if outcome["cores"] == 2 and outcome.get("device_type", "cpu") == "cpu"
        for result in outcome["results"]
    ]
    for case, trainer, least in bench.AIMS:
        ratios = [r["ratio"] for r in measured if (r["case"]["name"], r["trainer"]) == (str(case), trainer)]
        found = [(_median_and_range(ratio, ".2f"), statistics.median(ratio) >= least) for ratio in ratios]
        for words, reached in found or [("not measured", None)]:
            lines.append((case, trainer, f"{least:g}", words, {True: "yes", False: "no", None: ""}[reached]))
    return markdown(grids.captioned("What the trainer was to reach on two cores, and what it reaches.", header, lines))


CUDNN = 4 / 3  # kernels of cuDNN for each gradient or output of a convolution: an assumption
KERNEL = 2.6, 3.4  # microseconds that a kernel of a recorded iteration takes, its launch included
KERNEL_OF_FIVE = 1.0, 1.4  # of device time, where five runs share the device


def launches(calls):
    """Kernels of an iteration of these calls: {"triton", "convolutions", "others"}."""
    return calls["triton"] + calls["others"] + CUDNN * calls["convolutions"]


def units(folder):
    """Triton kernels of one Residual Unit as they are generated for CUDA, forward and backward."""
    found = {}
    for made in _outcomes(folder):
        found |= made["units"]
    lines = [(name, *both) for name, both in found.items()]
    caption = "Triton kernels of one Residual Unit, generated for an H200."
    return markdown(grids.captioned(caption, ("unit", "forward", "backward"), lines, 2) if lines else "Not counted.")


def kernels(folder):
    """Kernels of an iteration as they are generated for CUDA, from a folder's files, and the model's times for them."""
    said = {"units": "units compiled, the rest as PyTorch has it", "all": "all regions compiled"}
    header = (
        "compiled",
        "Triton",
        "convolutions",
        "others",
        "kernels",
        "ms per iteration",
        "a run alone",
        "one of five",
    )
    parts = []
    for made in _outcomes(folder):
        about = (
            f"Kernels of {made['network']} in {made['precision']}, generated for {made['device'].upper()}, torch "
            f"{made['torch']}, and the model's times."
        )
        lines = [(said[way], *_modelled(calls)) for way, calls in made["compiled"].items()]
        parts.append(grids.captioned(about, header, lines, right=7))
    return markdown(*parts or ["Not counted."])


def _modelled(calls):
    """The counts as cells, and the times that the model has for them: an iteration, and 64,000 of a run."""
    counts = (f"{calls[kind]:,}" for kind in ("triton", "convolutions", "others"))
    alone, of_five = ([launches(calls) * each for each in bounds] for bounds in (KERNEL, KERNEL_OF_FIVE))
    iteration = "{:.1f} to {:.1f}".format(*(microseconds / 1000 for microseconds in alone))
    runs = ("{:.0f} to {:.0f} s".format(*(0.064 * each for each in times)) for times in (alone, of_five))
    return *counts, f"{launches(calls):,.0f}", iteration, *runs


def precisions(folder):
    """Rows of Table 2 by the precision that they were trained in, from records in a folder for each."""
    from ..iteration.step import PRECISIONS

    pairs = (("bf16", "fp32"), ("bf16-skip-fp32", "bf16"))
    compared = [name for name in PRECISIONS if any(name in pair for pair in pairs)]
    return _side_by_side(folder, compared, pairs)


def layouts(folder):
    """What the layout of BN's tensors does on a CPU: its rounding, and rows of Table 2 trained in each."""
    measured, names = _outcomes(folder)[0], ("channels-last", "contiguous")
    words = {"output": "one BN's output", "gradient": "the first gradient of ResNet-110, full pre-activation"}
    lines = [(words[what], *(f"{errors[name]:.1e}" for name in names)) for what, errors in measured["errors"].items()]
    about = f"What BN rounds in each layout, in float32: {measured['device']}, torch {measured['versions']['torch']}."
    header = ("distance from double precision, relative", *(f"`{name}`" for name in names))
    runs = _side_by_side(folder, names, (names,))
    return markdown(grids.captioned(about, header, lines), runs.data)


def _side_by_side(folder, names, pairs):
    """Rows of Table 2 by the folder that their records lie in, and the differences of pairs of folders."""
    rows, folders = paper.rows(2), {name: Path(folder, name) for name in names}
    lines, effects = [], []
    for tier, reduction in dict.fromkeys(s for each in folders.values() for s in records.settings(rows, each)):
        for row in rows:
            found = {name: summarise(row, tier, reduction, each) for name, each in folders.items()}
            if any(each.n for each in found.values()):
                lines.append((row.case, tables.tier_words(tier, reduction), *found.values()))
                effects.append((row.case, *(tables.effect(found[one], found[other]) for one, other in pairs)))
    if not lines:
        return markdown("Not measured.")
    header = ("case", "recipe", *(f"`{name}`" for name in names))
    note = "Test error in percent: the median of n runs, their mean ± standard deviation in brackets."
    differences = ("case", *(f"`{one}` less `{other}`" for one, other in pairs))
    paired = "The mean difference in points of runs of the same seed, with its 95 % interval."
    return markdown(grids.captioned(note, header, lines), grids.captioned(paired, differences, effects))


def _outcomes(folder):
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]


def _median_and_range(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


# --- of a table, for the book


def _test_crop(row):
    """The test of a row on ImageNet as the paper writes it: "320x320 of 320"."""
    side, crop = next(place for name, *place in row.protocol.tests if name == row.crop)
    return f"{crop}x{crop} of {side}"


def inception():
    """The other method's result that Table 5 quotes."""
    (quoted,) = [cited for cited in paper.CITED if cited.dataset == "imagenet"]
    header = ("method", "augmentation", "train and test crop", "top-1 / top-5, %")
    line = (quoted.method, "scale and aspect ratio", "299x299", f"{quoted.error} / {quoted.top5}")
    return markdown(grids.captioned("The method that the paper quotes beside its own.", header, [line]))


def loader(path):
    """How fast a core loads pictures, beside torchvision, as `book/measure_loader.py` measured it; a table."""
    found = json.loads(Path(path).read_text())
    lines = [
        (name, _median_and_range(each, ".0f"), _median_and_range(found["ratio"][name], ".2f"))
        for name, each in found["images_per_second_per_core"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if name != "decoder")
    about = (
        f"{found['device']}, one thread, {versions}, {found['versions']['decoder']}; {found['pictures']} drawn "
        f"pictures about as large as ImageNet's, {found['kilobytes']:g} kB each; the median of {found['rounds']} "
        f"rounds, and their range, by processor time. The machine was busy otherwise: trust the ratios before the "
        f"rates."
    )
    header = ("way", "images/s", "times the first")
    return markdown(grids.captioned(about, header, lines, right=2))


def scheduling(path):
    """What Ray costs beside training, as `book/measure_scheduling.py` measured it; a sentence."""
    found = json.loads(Path(path).read_text())
    ratios = [each["ray"] / each["alone"] for each in found["seconds"]]
    outside = [100 * each["outside_training"] / each["ray"] for each in found["seconds"]]
    minutes = statistics.median(each["alone"] for each in found["seconds"]) / len(found["runs"]) / 60
    return markdown(
        f"{len(found['runs'])} runs of {minutes:.1f} minutes, one after the other on one core, took under Ray "
        f"{_median_and_range(ratios, '.3f')} times what they took alone (the median of {len(ratios)} rounds and their "
        f"range). Of the time under Ray, {_median_and_range(outside, '.1f')} percent was spent outside the runs: on "
        f"the way to a worker and on the records' way home ({found['device']}, Ray {found['ray']})."
    )


def imagenet_steps(path):
    """How long a training of each of Table 5's nets takes a core, by `book/measure_imagenet_step.py`; a table."""
    found, images = json.loads(Path(path).read_text()), protocols.IMAGENET.iterations * protocols.IMAGENET.batch
    lines = [
        (name, _median_and_range(each, ".2f"), f"{statistics.median(each) * images / 86_400:,.0f}")
        for name, each in sorted(found["seconds_per_image"].items())
    ]
    about = f"{found['device']}, one thread, fp32, torch {found['torch']}; processor time."
    header = ("network", "core seconds per image", "core days per training")
    return markdown(grids.captioned(about, header, lines, right=2))


def imagenet_contrasts():
    """The pairs of results on ImageNet that differ in one thing, by what it is, with the difference in points."""
    lines = []
    rows = [(*_choices_of(row), row.published) for row in paper.rows(5)]
    for position, (*one, first) in enumerate(rows):
        for *other, second in rows[position + 1 :]:
            apart = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
            if len(apart) == 1:
                ((before, after),) = apart
                same = ", ".join(a for a, b in zip(one, other, strict=True) if a == b)
                gaps = (f"{second.error - first.error:+.1f}", f"{second.top5 - first.top5:+.1f}")
                lines.append((f"{before} → {after}", same, *gaps))
    caption = "The paper's pairs of results that differ in one choice, and by how much."
    return markdown(grids.captioned(caption, ("change", "with", "top-1, points", "top-5, points"), lines))


def _choices_of(row):
    """Net, unit, augmentation and test crop, in words."""
    network = row.networks[""]
    return f"ResNet-{network.depth}", network.order, row.protocol.augmentation, f"tested at {_test_crop(row)}"


def reading(table):
    """How the runs of a table differ from the paper's and what would settle the matter, a paragraph per setting."""
    bases = {}
    for row in paper.rows(table):
        setting = tables.nearest(row) if row.claim else None
        if setting and row.baseline not in bases.setdefault(setting, []):
            bases[setting].append(row.baseline)
    told = [_reading(paper.rows(table, found), *setting) for setting, found in bases.items()]
    if any(tier != "paper" for tier, _ in bases):
        told.append(
            "Such runs show which network is easier to train at the start, which is the paper's own argument for both "
            "of its claims. They do not show what a network gains by regularisation once it has fitted its images, nor "
            "whether one that trains slowly catches up. What is *seen* here may not hold in the paper's setting, and "
            "what is *contradicted* here may hold there. Five runs of each row in the paper tier would settle it: "
            f"`invoke reproduce --table {table} --tier paper --seeds 5`."
        )
    return markdown(*told)


def _reading(baselines, tier, reduction):
    """How a setting differs from the paper's, from the recipes and records of a table's baselines, in words."""
    if tier == "paper":
        return "In the paper tier the runs are the paper's own, and an interval is all that stands between the two."
    ends = list(_ends(baselines, tier, reduction))
    told = f" {ends[0]}" if len(ends) == 1 else "\n\n" + "\n".join(f"- {each}" for each in ends)
    return f"**How to read the {tables.tier_words(tier, reduction)}.**{told}"


def _ends(rows, tier, reduction):
    """What baselines train on and where they end, in a tier and in the paper; in sentences, one pair per recipe."""
    alike = {}
    for row in rows:
        recipes = protocols.recipe(row.recipe(), tier, reduction), row.recipe()
        found = summarise(row, tier, reduction)
        guess = not any(map(learnt, found.records))
        alike.setdefault((*map(_trained_on, recipes), guess), []).append(found)
    for (ours, theirs, guess), each in alike.items():
        trained = [statistics.median(record["curve"]["train_error"][-1] for record in one.records) for one in each]
        names, errors, training, stated = (
            " and ".join(words)
            for words in (
                [f"*{one.row.name()}*" for one in each],
                [f"{one.median:.2f}" for one in each],
                [f"{error:.1f}" for error in trained],
                [str(one.row.published) for one in each],
            )
        )
        if guess:
            far = ", no better than a guess, so that no error is compared with " + ("it" if len(each) == 1 else "them")
        else:
            far = ", far from having fitted the training images" if min(trained) > 5 else ""
        if len(each) == 1:
            yield (
                f"The baseline {names} is trained on {ours}; in the paper, on {theirs}. Ours ends at a test error of "
                f"{errors} % and a training error of {training} %{far}; the paper's, at {stated} %."
            )
        else:
            yield (
                f"The baselines {names} are trained on {ours}; in the paper, on {theirs}. Ours end at test errors of "
                f"{errors} % and training errors of {training} %{far}; the paper's, at {stated} %."
            )


def _trained_on(recipe):
    """Images, channels and iterations of a recipe, in words."""
    network, times = recipe.network, BRANCHES[recipe.network.branch][1]
    channels = ", ".join(map(str, network.widths)) + " channels" + f" (times {times} between units)" * (times > 1)
    return f"{protocols.IMAGES[recipe.dataset]} with {channels} for {recipe.protocol.iterations:,} iterations"


def spreads():
    """The standard deviation of the paired differences that verdicts rest on, by tier, where runs have learnt."""
    found = {}
    for row in (row for table in (1, 2, 3) for row in paper.rows(table) if row.claim and len(row.networks) == 1):
        (base,) = paper.rows(row.table, [row.baseline])
        for tier, cut in figures.settings([base, row]):
            apart = gaps(*(summarise(one, tier, cut) for one in (row, base)), counts=learnt)
            if len(apart) >= tables.ENOUGH:
                found.setdefault(tables.tier_words(tier, cut), []).append(statistics.stdev(apart))
    lines = [
        (where, len(of), *(f"{each:.2f}" for each in (min(of), statistics.median(of), max(of))))
        for where, of in found.items()
    ]
    header = ("tier", "rows", "smallest", "median", "largest, points")
    caption = "The standard deviation of the difference of paired runs, in points: over so many rows, by tier."
    return markdown(grids.captioned(caption, header, lines) if lines else "No row has been run three times yet.")


def study(name):
    """A study's numbers, one table for each tier and reduction in which any of its rows has been run."""
    parts = []
    for tier, reduction in _settings_run(name):
        caption = f"{_heading(name, tier, reduction)}. {tables.note(name, tier)}"
        parts.append(grids.captioned(caption, *_of_study(name, tier, reduction)))
    return markdown(*parts) if parts else markdown("Not run.")


def _of_study(name, tier, reduction):
    """(header, lines) of a study's table with each row in words; its id is for commands."""
    header, *lines = tables.cells(name, tier, reduction)
    naming = 2 if "choice" in header else 1  # columns that say which row it is
    words = [row.name() for row in paper.rows(name)]
    named = [(said, *line[naming:]) for said, line in zip(words, lines, strict=True)]
    return ("setting", *header[naming:]), named


def search(name):
    """The curve of a search: the error of each fold by row, and their median, of the tier nearest to the paper's."""
    from . import plots

    settings = _settings_run(name)
    if not settings:
        return markdown("Not run.")
    tier, reduction = settings[-1]
    found = [summarise(row, tier, reduction) for row in paper.rows(name)]
    return plots.search(found, _heading(name, tier, reduction))


def _heading(name, tier, reduction):
    """A study's title without its name, which is for commands."""
    return tables.title(name, tier, reduction).removeprefix(f"{paper.label(name)}. ")


def _settings_run(name):
    """[(tier, reduction)] in which a study has been run; rows that it shares with the tables say nothing of that."""
    return records.settings([row for row in paper.rows(name) if place(row, "")[0] == row])
