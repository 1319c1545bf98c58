"""What the runs cost, from their records, and what the paper says of its own."""

import statistics
from dataclasses import dataclass

from .. import grids
from ..experiments import paper
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import plan
from ..nets.counts import activation_bytes, count, parameters
from . import records
from .statistics import summaries


@dataclass(frozen=True)
class Published:
    """What section 5 says that a training took: `hours` on `gpus` GPUs."""

    network: str
    hours: float
    gpus: int
    words: str


ON_CIFAR = Published("ResNet-1001 on CIFAR", 27.0, 2, "about 27 hours on 2 GPUs")
ON_IMAGENET = Published("ResNet-200 on ImageNet", 3 * 7 * 24.0, 8, "about 3 weeks on 8 GPUs")
PUBLISHED = (ON_CIFAR, ON_IMAGENET)


PAPERS_GPUS = 8  # "256 on 8 GPUs (32 each)"


def training_flops(row):
    """Operations of a whole training of a row of Table 5, as the paper's protocol has it."""
    protocol = row.protocol
    images = protocol.iterations * protocol.batch
    return count(row.networks[""], (protocol.crop, protocol.crop)).training_flops * images


def imagenet():
    """What each of section 5's nets takes to train and to test, counted from the nets, as a Markdown table."""
    rows = {row.networks[""].depth: row for row in paper.rows(5)}
    lines = []
    for depth, row in sorted(rows.items()):  # an order of activation costs what another does
        spec = row.networks[""]
        small, large = (count(spec, (side, side)) for side in (224, 320))
        memory = activation_bytes(spec, (224, 224), row.protocol.batch // PAPERS_GPUS, "fp32")
        counted = (f"{parameters(spec) / 1e6:.1f} M", f"{small.macs / 1e9:.1f} G", f"{large.macs / 1e9:.1f} G")
        lines.append(
            (f"ResNet-{depth}", *counted, f"{training_flops(row) / 1e18:.1f} EFLOP", f"{memory / 2**30:.1f} GiB")
        )
    columns = ("parameters", "multiply-adds at 224x224", "at 320x320", "per training run", "memory, each GPU")
    caption = "What the networks of Table 5 take, by their counts."
    return grids.captioned(caption, ("network", *columns), lines, right=len(columns))


def papers_rate():
    """FLOP/s of each GPU that the paper's three weeks for ResNet-200 come to, on average."""
    (row,) = paper.rows(5, ["200-pre-activation-320"])
    return training_flops(row) / (ON_IMAGENET.hours * 3600 * ON_IMAGENET.gpus)


@dataclass(frozen=True)
class Cost:
    """Of the runs of one row's recipe on one kind of device, medians over them.

    seconds: of device time in all: busy seconds of all its cores for a CPU, of wall time for a GPU. iterations: that
    the schedule has; a diverged run ended earlier, and is left out. multiply_adds: of one image, forward.
    """

    row: object
    tier: str
    reduction: Reduction
    device: str
    precision: str
    n: int
    seconds: float
    iterations: int
    multiply_adds: int
    batch: int = 128

    @property
    def rate(self):
        """Device seconds a multiply-add of the forward pass, over all images of the schedule."""
        return self.seconds / (self.multiply_adds * self.iterations * self.batch)

    @property
    def each(self):
        """Device seconds an iteration."""
        return self.seconds / self.iterations


def costs(results=None):
    """A `Cost` for each row of the tables, tier, reduction and device that has finished runs, trained rows once."""
    found = {}
    for row in (row for table in paper.TABLES for row in paper.rows(table)):
        for tier, reduction in records.settings([row], results):
            for made in _by_device(row, tier, reduction, results):
                recipe = records.recipe_hash(plan([row], tier, [0], reduction)[0].recipe)
                found.setdefault((recipe, made.device, made.precision), made)
    return list(found.values())


def _by_device(row, tier, reduction, results):
    found = [record for each in summaries(row, tier, reduction, results) for record in each.records]
    finished = [record for record in found if record["status"] == "finished"]
    if not finished:
        return
    run = plan([row], tier, [0], reduction)[0]
    adds, protocol = run.counts.macs, run.recipe.protocol
    for device, precision in dict.fromkeys((record["device"], record["precision"]) for record in finished):
        here = [r["device_seconds"] for r in finished if (r["device"], r["precision"]) == (device, precision)]
        about = row, tier, reduction, device, precision, len(here)
        yield Cost(*about, statistics.median(here), protocol.iterations, adds, protocol.batch)


SOURCES = ("finished runs of the same row", "finished runs of the same tier", "finished runs of other tiers")


def estimate(run, device, precision, known):
    """(device seconds that a run will take, which of SOURCES says so); (None, None) where none of `known` is of use.

    device: by name, as records have it. known: `costs`. Seconds go by multiply-adds, over all images of the schedule:
    the median of the runs of this device and precision that are most like it.
    """
    here = [cost for cost in known if (cost.device, cost.precision) == (device, precision)]
    like = (
        [cost for cost in here if (cost.row, cost.tier, cost.reduction) == (run.row, run.tier, run.reduction)],
        [cost for cost in here if cost.tier == run.tier],
        here,
    )
    for source, found in zip(SOURCES, like, strict=True):
        if found:
            return statistics.median(cost.rate for cost in found) * run.multiply_adds, source
    return None, None


def left(planned, device, precision, results=None, timed=None):
    """What is left to train of planned runs, and about how long it takes on a device of that name, in one sentence.

    timed(run): the device seconds of an iteration, measured now; asked for one run where no record is of the device.
    """
    todo = [run for run in planned if records.peek(run, results) is None]
    if not todo:
        return "nothing is left to train"
    found = _estimates(todo, device, precision, costs(results))
    said = f"left to train: {len(todo)} of {len(planned)} runs"
    if not found:
        if timed is None:
            return f"{said}; how long they take is not known: no finished run here is of {device} in {precision}"
        known = [of_iterations(todo[0], device, precision, timed(todo[0]))]
        now = f"{len(todo)} by a few iterations of {todo[0].row.id} timed just now, evaluations left out"
        found = {now: [seconds for each in _estimates(todo, device, precision, known).values() for seconds in each]}
    total = sum(sum(seconds) for seconds in found.values())
    sources = ", ".join(f"{len(seconds)} by {name}" if name in SOURCES else name for name, seconds in found.items())
    return (
        f"{said}, about {duration(total)} of {device} in {precision}, a CPU's cores added up; "
        f"estimated {sources}, in proportion to multiply-adds; a stopped run counts as a whole one"
    )


def _estimates(todo, device, precision, known):
    """{source: the seconds of the runs that it gives}; empty where nothing known is of the device."""
    each = [estimate(run, device, precision, known) for run in todo]
    found = {name: [seconds for seconds, source in each if source == name] for name in SOURCES}
    return {name: seconds for name, seconds in found.items() if seconds}


def seconds(runs, device, precision, known):
    """Device seconds that the runs take in all, each by `estimate`; None where nothing known is of the device."""
    found = _estimates(runs, device, precision, known)
    return sum(map(sum, found.values())) if found else None


def of_iterations(run, device, precision, each):
    """The Cost of a run whose iterations take so many device seconds each."""
    about, protocol = (run.row, run.tier, run.reduction, device, precision, 0), run.recipe.protocol
    return Cost(*about, each * protocol.iterations, protocol.iterations, run.counts.macs, protocol.batch)


def duration(seconds):
    """Seconds as a reader would say them."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def published():
    """The paper's durations as a Markdown table, with the GPU hours that they add up to."""
    lines = [(each.network, each.words, f"{each.hours * each.gpus:,.0f}") for each in PUBLISHED]
    return grids.captioned(
        "The durations that the paper gives.", ("network", "the paper", "GPU hours in all"), lines, 1
    )


def markdown(results=None):
    """The costs as Markdown tables, one a tier; "Not run." for a tier without records."""
    found, parts = costs(results), []
    for tier in reversed(TIERS):
        made = [cost for cost in found if cost.tier == tier]
        if not made:
            parts.append(f"**{tier.capitalize()} tier.** Not run.")
            continue
        lines = []
        for cost in made:
            cut = f", {cost.reduction}" if cost.reduction.name else ""
            about = (f"Table {cost.row.table}, {cost.row.name()}{cut}", cost.n, f"{cost.device}, {cost.precision}")
            lines.append((*about, duration(cost.seconds), f"{cost.each:.3f}", f"{cost.multiply_adds / 1e6:,.1f}"))
        header = ("row", "n", "device", "per run", "per iteration, seconds", "multiply-adds per image, millions")
        parts.append(grids.captioned(f"{tier.capitalize()} tier: the median of n runs.", header, lines, right=3))
    return "\n\n".join(parts)
