"""The commands of the companion: `invoke --list` names them, `invoke --help reproduce` explains one.

invoke reproduce --table 3     train what has no record, execute the rows' notebooks, print the table
invoke doctor                  what this machine has, what of it works, and what to begin with
invoke status                  what has been run, and what is next
invoke book                    the site
"""

import os
import shlex
import sys
from pathlib import Path

import invoke
from invoke import Exit, task

HERE = Path(__file__).resolve().parent
# The checkout's own library, installed or not: here, and in the kernels of notebooks and pages.
sys.path.insert(0, str(HERE / "pkg"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE / "pkg"), os.environ.get("PYTHONPATH")]))

# What imports torch is imported by the actions: a list of the tasks, or a wrong flag, is answered at once.
from identity_mappings.__main__ import BUDGET, CLUSTER, SHARED  # noqa: E402
from identity_mappings.errors import UsageError, shown, whole  # noqa: E402
from identity_mappings.experiments.protocols import TIERS, Reduction  # noqa: E402
from identity_mappings.guard import deafen, guarded  # noqa: E402


class Mistake(invoke.exceptions.ParseError, Exit):
    """What invoke cannot parse, which ends with 2 as every other mistake of a user does; invoke's own ends with 1."""

    code, message = 2, None  # the line is printed as a ParseError's

    def __init__(self, line, context=None):
        Exception.__init__(self, line)


invoke.program.ParseError = invoke.parser.parser.ParseError = Mistake

LONGEST = 10_000  # minutes of trials: a week
LARGEST = 10**9  # of a number in a command line; what is too large for its purpose is refused where that is known
ROW = "a row's id, as `invoke status` lists them; may be repeated; default: all rows of the table"
TIER = "; ".join(f"{tier}: {words}" for tier, words in TIERS.items()) + "; default: smoke, on CUDA quick"


def run(action):
    """Run an action; a user's mistake is one line and a status, never a traceback."""
    status = guarded(action)
    if status:
        deafen()
        raise Exit(code=status)


def command(action):
    """Run action(commands); the commands of the library, and torch with them, are imported only then."""

    def imported():
        from identity_mappings import commands

        action(commands)

    run(imported)


def number(text, flag, least=1):
    """The whole number that a user wrote after a flag, None for none.

    Flags have no default and so are text to invoke, which ends in a traceback where a number is none.
    """
    return None if text is None else whole(text, f"--{flag}", least, LARGEST)


def amount(text, unit):
    """The number of `unit`, the flag's name as well, that a user wrote; None for none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        raise UsageError(f"--{unit} must be a number of {unit}; got {shown(text)}") from None


@task(
    iterable=["row"],
    help={
        "table": "the paper's table, 1 to 5, or a study: gate-bias (section 3.1), choices (what the paper leaves open)",
        "row": ROW,
        "tier": TIER,
        "seeds": "runs of each row, with seeds 0, 1, ...; default: 1, a study's own; the paper's medians are of 5",
        "device": "auto, cpu or cuda",
        "precision": "fp32, bf16 (autocast), bf16-skip-fp32 (its signal along the shortcuts in float32), or fp16",
        "depth": "train at a smaller depth than the row's, recorded as such (not in the paper tier)",
        "iterations": "train for fewer iterations than the tier's, recorded as such (not in the paper tier)",
        "width": "train with fewer channels in the first stage, recorded as such (not in the paper tier)",
        "weights": "keep each run's weights as seed-k.safetensors beside its record, for `evaluate`",
        "budget": BUDGET,
        "cluster": CLUSTER,
        "shared": SHARED,
        "gpus": "Table 5 only: train on so many GPUs of one machine together",
        "data": "Table 5 only: ImageNet's folder, with train and val; default: imagenet in the data folder",
        "dry-run": "list the runs and about how long what is left of them takes, and stop",
    },
)
def reproduce(
    _,
    table,
    row=None,
    tier=None,
    seeds=None,
    device="auto",
    precision="fp32",
    depth=None,
    iterations=None,
    width=None,
    weights=False,
    budget=None,
    cluster=None,
    shared=False,
    gpus=None,
    data=None,
    dry_run=False,
):
    """Reproduce a table: train what has no record, execute the rows' notebooks, print paper, ours, n and verdict.

    Kill it at any moment: the same command goes on from the last checkpoints.
    """

    def action(commands):
        from identity_mappings.data import imagenet
        from identity_mappings.errors import choose
        from identity_mappings.experiments import paper
        from identity_mappings.iteration.step import PRECISIONS
        from identity_mappings.pages import notebooks
        from identity_mappings.results import records

        choose(precision, PRECISIONS, "precision")
        imagenet.choose_folder(data)
        cut = Reduction(number(depth, "depth"), number(iterations, "iterations"), number(width, "width"))
        count, together = number(seeds, "seeds"), number(gpus, "gpus")
        if together and device == "cpu":
            raise UsageError("--gpus trains on CUDA devices, --device cpu on none: leave one out")
        with commands.trainer(cluster, shared, together) as (resolve, train):
            runs, on, chosen_tier, reduction = commands.planned(table, row, tier, count, cut, device, resolve)
            if dry_run:
                for each in runs:
                    print(f"{each.name}: {commands.state_or_new(each)}, {each.recipe.protocol.iterations:,} iterations")
                print(commands.left(runs, on, precision))
                return
            commands.name_kept(runs, precision)
            if together and not cluster:
                commands.train_on_gpus(together, runs, precision, weights, budget)
                outcomes = {each: records.read(each) for each in runs}
            else:
                outcomes = commands.train_runs(runs, on, precision, weights, budget, train)
        if paper.named(table) in paper.TABLES:
            notebooks.execute(int(table), row, chosen_tier, sorted({run.seed for run in runs}), reduction)
        commands.print_table(table, chosen_tier, reduction, row)
        commands.raise_refused(outcomes)

    command(action)


@task(help={"device": "auto, cpu or cuda", "json": "print it as JSON"})
def doctor(_, device="auto", json=False):
    """Say what this machine has, what of it works, and what to begin with; half a minute."""
    command(lambda commands: commands.doctor(device, json))


@task(
    help={
        "table": "only this table or study",
        "next": "instead, so many of the runs that would tell most, and what they cost here",
        "tier": "of --next; default: this machine's",
    }
)
def status(_, table=None, next=None, tier=None):
    """Show which rows have how many finished, diverged, running and stopped runs, per tier, and what is next."""
    command(lambda commands: commands.status(table, number(next, "next"), tier))


@task(
    iterable=["row"],
    help={
        "name": "your name as it is to be shown; default: none",
        "out": "the file to write",
        "table": "only this table or study",
        "row": "only this row; may be repeated",
        "tier": "only this tier",
    },
)
def contribute(_, name="", out="contribution.jsonl", table=None, row=None, tier=None):
    """Pack this machine's finished runs into one file for others; CONTRIBUTING.md says where to send it."""
    command(lambda commands: commands.contribute(name, out, table, row, tier))


@task(positional=["file"], help={"file": "a contribution, or one record's own file", "dry-run": "add nothing"})
def receive(_, file, dry_run=False):
    """Check contributed runs, a line each, and add those that are new; nothing that stands is overwritten."""
    command(lambda commands: commands.receive(file, dry_run))


@task(help={"dataset": "cifar10 or cifar100"})
def data(_, dataset):
    """Download a data set unless it is there, and check it. $IDENTITY_MAPPINGS_DATA chooses the folder."""
    command(lambda commands: commands.data(dataset))


@task(name="notebooks")
def sync_notebooks(context):
    """Bring each notebook's .py and .ipynb together: the newer one wins; outputs are never kept."""
    context.run(f"{sys.executable} -m jupytext --sync {HERE}/notebooks/*.py")


@task(
    help={
        "serve": "then serve the site to this machine's browser, until Ctrl-C",
        "port": "to serve it on; default: 8000",
        "pdf": "then print all pages into one PDF; needs Chromium or Chrome",
    }
)
def book(_, serve=False, port=None, pdf=False):
    """Execute the notebooks of all rows that have records and build the site, with warnings as errors.

    Only what has changed is executed again.
    """

    def action():
        from identity_mappings.pages.book import site

        chosen = 8000 if port is None else whole(port, "--port", 1, 65_535)
        server = site.server(chosen) if serve else None  # what is not to be had is said before the build
        printer = site.printer() if pdf else None
        site.build()
        print(f"open {site.SITE / 'index.html'}")
        if printer:
            site.print_pdf(printer)
            print(f"open {site.PDF}")
        if server:
            site.serve(server)

    run(action)


@task
def readme(_):
    """Write what the README says of the committed records anew, its picture included."""

    def action():
        from identity_mappings.pages import readme as made

        made.write(HERE)

    run(action)


@task(
    iterable=["depth", "runs", "precision"],
    help={
        "depth": "of the nets; may be repeated; default: 20 and 110",
        "runs": "runs at once; may be repeated; default: 1 and the cores, on CUDA 1, 2, 3, 5",
        "precision": "may be repeated; default: fp32 and bf16",
        "seconds": "of each measurement; default: 5",
        "repeats": "of each measurement, in turn; default: 5",
        "batch": "images of an iteration; default: 128",
        "size": "of the images, pixels a side; default: 32",
        "width": "channels of the first stage; default: 16",
        "device": "auto, cpu or cuda",
        "json": "a file for the results",
    },
)
def bench(
    _,
    depth=None,
    runs=None,
    precision=None,
    seconds=None,
    repeats=None,
    batch=None,
    size=None,
    width=None,
    device="auto",
    json=None,
):
    """Measure images per second against a common training loop on this machine; a few minutes."""

    def action(commands):
        lists = {"depth": [number(each, "depth") for each in depth], "runs": [number(each, "runs") for each in runs]}
        single = {"repeats": repeats, "batch": batch, "size": size, "width": width}
        given = {flag: number(text, flag) for flag, text in single.items()} | {"seconds": amount(seconds, "seconds")}
        chosen = {flag: value for flag, value in given.items() if value is not None}
        commands.bench(**lists, **chosen, precision=precision, device=device, json=json)

    command(action)


@task(
    help={
        "minutes": "of trials; default: 10",
        "kills": "also kill a process that trains a table so many times, again and again",
        "workers": "also kill one of two processes that train a run by torchrun, so many times, and both, as often",
        "nodes": "also lose so many nodes of a local Ray cluster, one after the other",
        "json": "a file for the counts, as book/chaos/NAME.json for the book",
    }
)
def chaos(context, minutes=None, kills=None, workers=None, nodes=None, json=None):
    """Train a small table again and again under kills, full disks, flipped bits and the like, and count what fails."""
    words = []

    def action():
        length = amount(minutes, "minutes")
        if length is not None and not 0 <= length <= LONGEST:  # which nan is not, either
            raise UsageError(f"--minutes must be from 0 to {LONGEST:,}; got {shown(minutes)}")
        counted = {"kills": kills, "workers": workers, "nodes": nodes}.items()
        times = {flag: number(text, flag, least=0) for flag, text in counted}
        given = {"minutes": length, **times, "json": json}
        words.extend(f"--{flag}={value}" for flag, value in given.items() if value is not None)

    run(action)
    context.run(shlex.join([sys.executable, f"{HERE}/tests/chaos.py", *words]), pty=False)


@task(help={"args": "further arguments for pytest"})
def test(context, args=""):
    """Run the tests, one process per core."""
    context.run(f"{sys.executable} -m pytest -n auto --dist loadfile {HERE}/tests {args}", pty=False)
