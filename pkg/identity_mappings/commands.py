"""What the commands do, for both command lines: `invoke` and `python -m identity_mappings`."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import filelock

from . import data as datasets
from .data import cifar, imagenet
from .errors import UsageError
from .experiments import paper, runs, studies
from .experiments.protocols import IMAGENET, TIERS, Reduction
from .progress import listener
from .results import grids, records, tables
from .training import distributed, train_all
from .training.loop import PRECISIONS, be_exact, choose, device_name, nothing, resolve_device
from .weights import evaluation, foreign
from .weights import files as weights_files


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


def planned(table, row=(), tier=None, seeds=None, reduction=Reduction(), device="auto"):
    """(runs, device, tier, reduction) of a command's arguments, all checked before anything is trained."""
    rows = paper.rows(table, row)
    device = resolve_device(device)
    tier, seeds, reduction = scaled(table, tier, seeds, reduction, device)
    return runs.plan(rows, tier, seeds, reduction), device, tier, reduction


def train(
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
    data=None,
):
    """Train what has no record yet, with progress, then print the rows. Raises UsageError if a run was refused.

    weights: keep each run's weights as seed-k.safetensors beside its record. data: ImageNet's folder. Processes that
    torchrun started train Table 5's runs together, and the first one speaks.
    """
    imagenet.choose_folder(data)
    choose(precision, PRECISIONS, "precision")
    cut = Reduction(depth, iterations, width)
    planned_runs, device, tier, reduction = planned(table, row, tier, tuple(seed) or None, cut, device)
    if distributed.rank() == 0:
        name_kept(planned_runs, precision)
    outcomes = train_runs(planned_runs, device, precision, weights)
    if distributed.rank():
        return
    print(tables.text(paper.named(table), tier, reduction, row))
    for run in planned_runs if weights else ():
        if run.weights_path().exists():
            print(f"weights: {run.weights_path()}")
    raise_refused(outcomes)


def watch(
    table,
    row=(),
    tier=None,
    seed=(),
    depth=None,
    iterations=None,
    width=None,
    device="auto",
    precision="fp32",
):
    """Train runs that nobody has watched yet, measure their units on the way, and say where the records are."""
    choose(precision, PRECISIONS, "precision")
    cut = Reduction(depth, iterations, width)
    planned_runs, device, _, _ = planned(table, row, tier, tuple(seed) or None, cut, device)
    planned_runs = [replace(run, watched=True) for run in planned_runs]
    name_kept(planned_runs, precision)
    outcomes = train_runs(planned_runs, device, precision)
    for run in planned_runs:
        if run.record_path().exists():
            print(f"watched: {run.record_path()}")
    raise_refused(outcomes)


def train_runs(planned_runs, device, precision, weights=False):
    """`train_all` with the data checked first and progress shown."""
    if weights:
        weights_files.check_installed()
    for dataset in dict.fromkeys(run.recipe.dataset for run in planned_runs if records.peek(run) is None):
        datasets.load(dataset)
    progress = nullcontext(nothing) if distributed.rank() else listener()
    with distributed.joined(device), progress as report:
        return train_all(planned_runs, report, device=device, precision=precision, weights=weights)


def train_on_gpus(gpus, planned_runs, precision, weights=False):
    """Train Table 5's runs, one after another, on several GPUs of this machine: one process each, by torchrun.

    Raises UsageError for another table, for more GPUs than there are, and where torchrun gave up.
    """
    if any(run.row.table != 5 for run in planned_runs):
        raise UsageError("--gpus is for Table 5, whose runs several GPUs share; others train side by side on one")
    distributed.check_devices(gpus)
    status = distributed.run(gpus, _as_arguments(planned_runs, precision, weights))
    if status:
        raise UsageError(
            f"training on {gpus} GPUs ended with status {status}, see above; the same command goes on from the last "
            f"checkpoint"
        )


def _as_arguments(planned_runs, precision, weights):
    """The arguments of `train` that stand for these runs, which are of one table, tier and reduction."""
    first = planned_runs[0]
    arguments = ["--table", str(first.row.table), "--tier", first.tier, "--precision", precision]
    for row in dict.fromkeys(run.row.id for run in planned_runs):
        arguments += ["--row", row]
    for seed in dict.fromkeys(run.seed for run in planned_runs):
        arguments += ["--seed", str(seed)]
    for name, value in vars(first.reduction).items():
        arguments += [] if value is None else [f"--{name}", str(value)]
    return arguments + ["--weights"] * weights


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
):
    """Print a network's error on a data set's test images, and how it was taken.

    weights: a file of this library, or with `layout` another repository's checkpoint. dataset, precision: default those
    of the weights. data: the folder of CIFAR's files or of images by class; default: the data folder. crop: default the
    first of the tests of the weights' protocol. Under torchrun the processes share the images.
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
    dataset = choose(dataset or (images or {}).get("dataset"), evaluation.DATASETS, "dataset")
    precision = choose(precision or record.get("precision", "fp32"), PRECISIONS, "precision")
    be_exact(device)
    if dataset in evaluation.SMALL:
        batches, words = evaluation.small_batches(network.spec, dataset, images, data, batch, device)
        where = dataset
    else:
        files = evaluation.test_files(dataset, data)
        tests = record.get("recipe", {}).get("protocol", {}).get("tests", IMAGENET.tests)
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


def table(table, tier=None, depth=None, iterations=None, width=None):
    """Print a table from the records that are there."""
    _, _, tier, reduction = planned(table, (), tier, None, Reduction(depth, iterations, width))
    print(tables.text(paper.named(table), tier, reduction))


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
    from .training import bench as measuring  # no other command needs it

    chosen = tuple(depth) or (20, 110), tuple(runs), tuple(precision) or ("fp32", "bf16")
    outcome = measuring.bench(*chosen, seconds, repeats, batch, size, width, resolve_device(device))
    if json:
        measuring.write(json, outcome)


def status(table=None):
    """Print each row's runs per tier: finished, diverged, running, stopped with a checkpoint; and what is next."""
    chosen = paper.rows(table)
    header = ("table", "row", *TIERS)
    lines, following = [header], {}
    for row in chosen:
        lines.append((str(row.table), row.id, *(counted(row, tier) for tier in TIERS)))
        for tier in TIERS:
            if tier not in following and not records.runs_of(row, tier):
                following[tier] = row
            for reduction in records.reductions(row, tier):
                cut = ["not run"] * len(TIERS)
                cut[[*TIERS].index(tier)] = counted(row, tier, reduction)
                lines.append((str(row.table), f"{row.id} at {reduction}", *("" if c == "not run" else c for c in cut)))
    print("\n".join(grids.plain(lines)))
    for tier, row in following.items():
        print(f"next in the {tier} tier: invoke reproduce --table {row.table} --row {row.id} --tier {tier}")


def counted(row, tier, reduction=Reduction()):
    """A row's runs in a tier, as "2 finished, 1 running", or "not run"."""
    states = Counter()
    for variant in row.networks:
        for seed in runs.Run(*runs.place(row, variant), tier, 0, reduction).seeds():
            states[state_of(runs.Run(*runs.place(row, variant), tier, seed, reduction))] += 1
    order = ("finished", "diverged", "running", "stopped", "of another recipe")
    return ", ".join(f"{states[state]} {state}" for state in order if states[state]) or "not run"


def state_of(run):
    """Where a run stands: its record's status, "running" while a process holds its lock, else "stopped"."""
    try:
        record = records.read(run)
    except UsageError:
        return "of another recipe"
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


def state_or_new(run):
    """As `state_of`, and "to train" for a run that has left nothing yet."""
    left = run.record_path().exists() or run.checkpoint_path().exists()
    return state_of(run) if left or run.lock_path().exists() else "to train"
