"""What the commands do, for both command lines: `invoke` and `python -m identity_mappings`."""

import shutil
import sys
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import filelock

from . import data as datasets
from . import grids
from .data import cifar, imagenet
from .environment import half
from .errors import UsageError, choose, whole
from .experiments import paper, runs, studies
from .experiments.protocols import IMAGENET, TIERS, Reduction
from .hardware import be_exact, device_name, resolve_device
from .iteration.step import PRECISIONS
from .machines import cluster as clusters
from .machines import contributions, queue
from .progress import duration, listener
from .results import costs, records, tables
from .training import budget as budgets
from .training import distributed, loop, train_all
from .weights import evaluation, foreign
from .weights import files as weights_files
from .weights.reading import sha256


def default_tier(device):
    """The tier for a device: smoke on the CPU, quick on CUDA."""
    return "quick" if device == "cuda" else "smoke"


def scaled(table, tier=None, seeds=None, reduction=Reduction(), device="cpu"):
    """(tier, seeds, reduction) of a command, with what it leaves open filled in.

    A table's tier follows from the device, and its seeds are one. A study has a scale of its own, which holds as a
    whole: a command that names a tier or a reduction chooses both.
    """
    scale = studies.SCALES.get(paper.named(table), studies.Scale(default_tier(device), 1))
    if tier is None and reduction == Reduction():
        tier, reduction = scale.tier, scale.reduction
    return tier or default_tier(device), scale.seeds if seeds is None else seeds, reduction


def planned(table, row=(), tier=None, seeds=None, reduction=Reduction(), device="auto", resolve=resolve_device):
    """(runs, device, tier, reduction) of a command's arguments, all checked before anything is trained."""
    rows = paper.rows(table, row)
    device = resolve(device)
    tier, seeds, reduction = scaled(table, tier, seeds, reduction, device)
    return runs.plan(rows, tier, seeds, reduction), device, tier, reduction


def train(table, row=(), weights=False, **asked):
    """Train what has no record yet, with progress, then print the rows. Raises UsageError if a run was refused.

    weights: keep each run's weights as seed-k.safetensors beside its record. asked: the rest of `trained`'s arguments.
    """
    planned_runs, outcomes, tier, reduction = trained(table, row, weights=weights, **asked)
    if distributed.rank():
        return
    print_table(table, tier, reduction, row)
    for run in planned_runs if weights else ():
        if run.weights_path().exists():
            print(f"weights: {run.weights_path()}")
    raise_refused(outcomes)


def watch(table, row=(), **asked):
    """Train runs that nobody has watched yet, measure their units on the way, and say where the records are.

    asked: the rest of `trained`'s arguments.
    """
    planned_runs, outcomes, *_ = trained(table, row, watched=True, **asked)
    for run in planned_runs:
        if run.record_path().exists():
            print(f"watched: {run.record_path()}")
    raise_refused(outcomes)


def trained(
    table,
    row=(),
    tier=None,
    seed=(),
    depth=None,
    iterations=None,
    width=None,
    device="auto",
    precision="fp32",
    weights=False,
    watched=False,
    budget=None,
    cluster=None,
    shared=False,
    data=None,
):
    """(runs, {run: its outcome}, tier, reduction): what a command plans, once it is trained.

    data: ImageNet's folder. Processes that torchrun started train Table 5's runs together, and the first one speaks.
    """
    imagenet.choose_folder(data)
    choose(precision, PRECISIONS, "precision")
    cut = Reduction(depth, iterations, width)
    with trainer(cluster, shared) as (resolve, training):
        planned_runs, device, tier, reduction = planned(table, row, tier, tuple(seed) or None, cut, device, resolve)
        planned_runs = [replace(run, watched=watched) for run in planned_runs]
        if not distributed.rank():
            name_kept(planned_runs, precision)
        outcomes = train_runs(planned_runs, device, precision, weights, budget, training)
    return planned_runs, outcomes, tier, reduction


@contextmanager
def trainer(cluster=None, shared=False, gpus=None):
    """(resolve, train) within it: what gives a device for the one asked for, and what trains runs as `train_all` does.

    cluster: of a Ray cluster, as `machines.cluster.connected` has it; None for this machine alone. shared: whether its
    machines share the results folder. gpus: of one of its machines, for each run of Table 5.
    """
    if cluster is None:
        if shared:
            raise UsageError("--shared says how the machines of a cluster keep records: it needs --cluster")
        yield resolve_device, train_all
        return
    if distributed.launched():
        raise UsageError("--cluster trains runs on many machines, torchrun one run by many processes: leave one out")
    with clusters.connected(cluster) as found:
        resolve = partial(_of_cluster, found)
        yield resolve, partial(clusters.train_on_cluster, shared=shared, processes=gpus or 1)


def _of_cluster(found, device):
    choose(device, ("auto", "cpu", "cuda"), "device")
    if device == "cuda" and found != "cuda":
        raise UsageError("device cuda needs a cluster with GPUs; this one has none: use --device cpu")
    return found if device == "auto" else device


def train_runs(planned_runs, device, precision, weights=False, budget=None, train=train_all):
    """`train_all`, or another that trains runs, with the data checked first, progress shown, and within a budget.

    budget: as a user writes it, "25m"; counted from now. What is left then is told in one line.
    """
    until = time.monotonic() + budgets.seconds(budget) if budget else None
    if weights:
        weights_files.check_installed()
    for dataset in dict.fromkeys(run.recipe.dataset for run in planned_runs if records.peek(run) is None):
        datasets.load(dataset)
    progress = nullcontext(loop.nothing) if distributed.rank() else listener()
    with distributed.joined(device), progress as report:
        pace = budgets.Pace(report)
        outcomes = train(planned_runs, pace, device=device, precision=precision, weights=weights, until=until)
    left = [run for run, outcome in outcomes.items() if outcome is None]
    if left and not distributed.rank():
        seconds = pace.left(left)
        rest = "" if seconds is None else f", about {duration(seconds)} of training on this machine"
        ended = len(outcomes) - len(left)
        print(f"the budget is spent: {ended} of {len(outcomes)} runs have ended, {len(left)} are left{rest}: ", end="")
        print("the same command goes on")
    return outcomes


def train_on_gpus(gpus, planned_runs, precision, weights=False, budget=None):
    """Train Table 5's runs, one after another, on several GPUs of this machine: one process each, by torchrun.

    Raises UsageError for another table, for more GPUs than there are, and where torchrun gave up.
    """
    distributed.check_runs(planned_runs)
    distributed.check_devices(gpus)
    status = distributed.run(gpus, distributed.arguments(planned_runs, "cuda", precision, weights, budget))
    if status:
        raise UsageError(
            f"training on {gpus} GPUs ended with status {status}, see above; the same command goes on from the last "
            f"checkpoint"
        )


def name_kept(planned_runs, precision):
    """Say which runs have a record of another precision than asked for: it stands."""
    for run in planned_runs:
        kept = records.peek(run)
        if kept and kept["precision"] != precision:
            made = kept["precision"]
            print(f"{run.name}: its record, made in {made}, stands; move it away to train in {precision}")


def raise_refused(outcomes):
    """One UsageError for all runs that were refused; the others' records are written."""
    refused = [f"{run.name}: {error}" for run, error in outcomes.items() if isinstance(error, UsageError)]
    if refused:
        raise UsageError("\n".join(refused))


def evaluate(
    weights,
    dataset=None,
    data=None,
    layout=None,
    depth=None,
    branch=None,
    crop=None,
    batch=evaluation.BATCH,
    device="auto",
    precision=None,
    mean=None,
    std=None,
):
    """Print a network's error on a data set's test images, and how it was taken.

    weights: a file of this library, or with `layout` another repository's checkpoint. dataset, precision: default those
    of the weights. data: the folder of CIFAR's files or of images by class; default: the data folder. crop: default the
    first of the tests of the weights' protocol. mean, std: of each channel, of values from 0 to 1, to normalise by;
    default: as the weights or their layout say. Under torchrun the processes share the images.
    """
    device = resolve_device(device)
    if batch < 1:
        raise UsageError(f"batch must be 1 image or more; got {batch}")
    if layout is None:
        network, about = weights_files.load(weights)
    else:
        choices = {"branch": branch} if branch else {}
        network, about = foreign.load(weights, layout, depth, dataset, **choices)
    images, record = about["images"], about["record"] or {}
    if mean or std:
        images = {"dataset": (images or {}).get("dataset"), "mean": mean, "std": std}
        weights_files.check_images(images, network.spec.channels)
    dataset = choose(dataset or (images or {}).get("dataset"), evaluation.DATASETS, "dataset")
    precision = choose(precision or record.get("precision", "fp32"), PRECISIONS, "precision")
    be_exact(device)
    if dataset in evaluation.SMALL:
        batches, words = evaluation.small_batches(network.spec, dataset, images, data, batch, device)
        where = dataset
    else:
        tests = record.get("recipe", {}).get("protocol", {}).get("tests", IMAGENET.tests)
        evaluation.folder_test(images, crop, tests)  # before a million files are listed
        files = evaluation.test_files(dataset, data)
        share = distributed.rank(), distributed.size()
        how = (crop, batch, tests, share, device)
        batches, words, side, crop = evaluation.folder_batches(network.spec, files, images, *how)
        where = f"{dataset} ({files[0].root}), shorter side {side}, crop {crop}"
    with distributed.joined(device):
        shared = {} if dataset in evaluation.SMALL else {"total": distributed.total}
        score = evaluation.score(network, batches, device, precision, **shared)
    if distributed.rank():
        return
    print(score)
    print(f"{network.spec} on {where}; normalised by {words}; {device_name(device)}, {precision}")
    print(f"{weights}: SHA-256 {sha256(weights)}")


def table(table, tier=None, depth=None, iterations=None, width=None):
    """Print a table from the records that are there."""
    _, _, tier, reduction = planned(table, (), tier, None, Reduction(depth, iterations, width))
    print_table(table, tier, reduction)


def print_table(table, tier, reduction, row=()):
    """Print a table, or some of its rows, as wide as the terminal; in a file or a pipe, as wide as it is."""
    width = shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None
    print(tables.text(paper.named(table), tier, reduction, row, width=width))


def data(dataset):
    """Bring a data set and say where it is."""
    brought = cifar.bring(dataset)
    print(
        f"{dataset}: {len(brought.x_train)} training and {len(brought.x_test)} test images in {datasets.data_dir()}, "
        f"checksum {brought.checksum[:16]}"
    )


def bench(
    depth=(), runs=(), precision=(), seconds=5.0, repeats=5, batch=128, size=32, width=16, device="auto", json=None
):
    """Measure images per second against a common training loop; print the table, and write it to the file `json`."""
    from .machines import bench as measuring  # no other command needs it

    device = resolve_device(device)
    chosen = tuple(depth) or (20, 110), tuple(runs), tuple(precision) or ("fp32", half(device))
    if json is not None:
        measuring.check_writable(json)
    outcome = measuring.bench(*chosen, seconds, repeats, batch, size, width, device)
    if json is not None:
        measuring.write(json, outcome)


def doctor(device="auto", json=False):
    """Say what this machine has, what of it works, and what to begin with. Raises UsageError if nothing can train."""
    from .machines import doctor as examining  # no other command needs it

    found, trouble = examining.examine(resolve_device(device))
    print(examining.as_json(found, trouble) if json else examining.text(found))
    if trouble:
        raise UsageError(f"doctor: {trouble}")


def left(planned_runs, device, precision):
    """What is left of planned runs, and about how long it takes on this machine."""
    return costs.left(
        planned_runs, device_name(device), precision, timed=lambda run: loop.timed(run, device, precision)
    )


def contribute(name="", out="contribution.jsonl", table=None, row=(), tier=None):
    """Pack the finished runs of this machine into one file, and say what to do with it.

    Left out are the records that the repository has already, and those that `receive` would refuse, each with its line.
    """
    rows = paper.rows(table, row) if table else [row for table in paper.GROUPS for row in paper.rows(table)]
    if tier:
        choose(tier, TIERS, "tier")
    found = {}
    for each in rows:
        for where, reduction in records.settings([each]):
            if tier in (None, where):
                found |= {run.record_path(): run for run in records.runs_of(each, where, reduction)}
    packed = contributions.pack(out, contributions.own(found.values()), name)
    for received in packed:
        if received.state == "refused":
            print(received)
    count = sum(received.state == "added" for received in packed)
    runs = "1 run" if count == 1 else f"{count} runs"
    print(f"{out}: {runs}, contributed by {name or 'nobody named'}; CONTRIBUTING.md says where to send it")


def receive(file=None, dry_run=False, changes=None):
    """Check contributed records, a line each, and add those that are new. Raises UsageError where one is refused.

    file: a contribution or a record. dry_run: add nothing. changes: instead of a file, (base, head): two commits, of
    which the second adds records.
    """
    if (file is None) == (changes is None):
        raise UsageError("receive takes a contribution's FILE, or --changes BASE HEAD")
    received = contributions.receive_changes(*changes) if changes else contributions.receive(file, keep=not dry_run)
    counts = Counter()
    for each in received:
        counts[each.state] += 1
        print(each, flush=True)
    kept = "would be added" if dry_run or changes else "added"
    print(f"{counts['added']} {kept}, {counts['known']} known already, {counts['refused']} refused")
    if counts["refused"]:
        raise UsageError("what was refused is named above, each with its reason; nothing that stands was overwritten")


def worth_running(count, tier=None):
    """Print the `count` runs that would tell most, by `machines.queue`, with what they cost here and their commands."""
    count = whole(count, "--next", 1, 1000)
    device = resolve_device("auto")
    tier = choose(tier or default_tier(device), TIERS, "tier")
    for place, each in enumerate(queue.candidates(tier, device_name(device))[:count], 1):
        cost = (
            "cost unknown: no finished run here is of this device"
            if each.seconds is None
            else f"about {costs.duration(each.seconds)} here by {each.source}"
        )
        words = f"{paper.label(each.row.table)}, {each.row.id}: {each.standing}, n = {each.pairs}"
        print(f"{place}. {words}; {len(each.runs)} more run{'s' * (len(each.runs) != 1)}, {cost}")
        for command in each.commands:
            print(f"   {command}")


def status(table=None, next=None, tier=None):
    """Print each row's runs per tier: n that ended, and those that diverged, run or are stopped; and what is next.

    next: print so many of the runs that would tell most instead, of `tier` (default: this machine's).
    """
    if next is not None:
        return worth_running(next, tier)
    chosen = paper.rows(table)
    header = ("table", "row", *TIERS)
    lines, following = [header], {}
    for row in chosen:
        lines += _status_lines(row)
        for tier in TIERS:
            if tier not in following and not records.runs_of(row, tier):
                following[tier] = row
    print("\n".join(grids.plain(lines)))
    for tier, row in following.items():
        print(f"next in the {tier} tier: invoke reproduce --table {row.table} --row {row.id} --tier {tier}")


def _status_lines(row):
    """A row's lines: one per recipe, then one per recipe and reduction under which it has records."""
    cuts = {tier: records.reductions(row, tier) for tier in TIERS}
    lines = []
    for variant in row.networks:
        name = f"{row.id}/{variant}" if variant else row.id
        lines.append((str(row.table), name, *(counted(row, variant, tier) for tier in TIERS)))
        for cut in dict.fromkeys(each for found in cuts.values() for each in found):
            cells = [counted(row, variant, tier, cut) if cut in cuts[tier] else "" for tier in TIERS]
            if set(cells) != {"", "not run"}:
                lines.append((str(row.table), f"{name} at {cut}", *cells))
    return lines


def counted(row, variant, tier, reduction=Reduction()):
    """A recipe's runs in a tier, as "n = 3, 1 diverged, 1 running", or "not run"; n are those that ended."""
    first = runs.Run(*runs.place(row, variant), tier, 0, reduction)
    states = Counter(state_of(replace(first, seed=seed)) for seed in first.seeds())
    ended = states.pop("finished", 0) + states["diverged"]
    order = ("diverged", "running", "stopped", "unusable")
    parts = [f"n = {ended}"] * bool(ended) + [f"{states[state]} {state}" for state in order if states[state]]
    return ", ".join(parts) or "not run"


def state_of(run):
    """Where a run stands: its record's status, "running" while a process holds its lock, else "stopped".

    "unusable": its record is damaged, or of another recipe.
    """
    try:
        record = records.read(run)
    except UsageError:
        return "unusable"
    if record:
        return record["status"]
    if not run.lock_path().exists():
        return "stopped"
    lock = filelock.FileLock(run.lock_path())
    try:
        with lock.acquire(blocking=False):
            return "stopped"
    except filelock.Timeout:
        return "running"
    except OSError:  # a lock that cannot even be asked for, as on a disk mounted for reading: nobody holds it
        return "stopped"


def state_or_new(run):
    """As `state_of`, and "to train" for a run that has left nothing yet."""
    left = run.record_path().exists() or run.checkpoint_path().exists()
    return state_of(run) if left or run.lock_path().exists() else "to train"
