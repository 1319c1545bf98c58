"""What this machine has, what of it works, and what that means for the tables: `doctor` of both command lines.

It trains for seconds on random images, in each way in which the trainer can take an iteration, and writes nothing.
"""

import json
import platform
import shutil
import textwrap
import time
from dataclasses import replace
from importlib.util import find_spec

import torch

from .. import environment, grids
from ..data import SIZES, data_dir
from ..data.batches import Images
from ..experiments import paper
from ..experiments.protocols import TIERS
from ..experiments.runs import plan, results_dir
from ..hardware import be_exact, cores, device_name
from ..iteration import memory
from ..iteration.capture import PLAIN, WAYS, Way, recorded
from ..iteration.step import Step
from ..results import costs
from ..results.costs import duration
from ..training.loop import process_kept, stream
from . import bench

SECONDS = 2.0  # of training in each way
WIDTH = 80  # columns of a screen
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}  # torchvision's
ROOM = 1 << 30  # bytes of disk below which checkpoints and records are in danger


def examine(device, seconds=SECONDS):
    """All that `doctor` says, as plain JSON types, and None or the line that says what keeps runs from training."""
    be_exact(device)
    tier, precision = suggestion(device)
    run = plan(paper.rows(1, ["original"]), tier, [0])[0]
    names = WAYS if device == "cuda" else [PLAIN]
    tried = {name: attempt(run.recipe, device, precision, name, seconds) for name in names}
    works = [result["device_seconds"] for result in tried.values() if "device_seconds" in result]
    source, seconds_of_tables = None, {}
    if works:
        measured = costs.of_iterations(run, device_name(device), precision, min(works))
        source, seconds_of_tables = tables(device, precision, measured)
    place = next(folder for folder in (results_dir(), *results_dir().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    at_once = memory.side_by_side(device) if device == "cuda" else cores()
    triton = bool(find_spec("triton"))
    found = {
        "device": device_name(device),
        "environment": environment.of(device, PLAIN),
        "cores": cores(),
        "memory_gib": round((memory.free(device) or memory.main()) / 2**30, 1),
        "disk_gib": round(free / 2**30, 1),
        "software": {"python": platform.python_version(), "torch": torch.__version__, "triton": triton},
        "data": {name: state_of(name) for name in FOLDERS},
        "ways": tried,
        "suggested": {"tier": tier, "precision": precision, "at_once": at_once},
        "estimated_from": source,
        "device_seconds_of_tables": seconds_of_tables,
    }
    trouble = None
    if not works:
        trouble = f"no iteration could be taken on {device}: {tried[PLAIN]['failed']}"
    elif free < ROOM:
        trouble = f"{place} has {free / 2**20:.0f} MiB free; records and checkpoints need 1 GiB: make room"
    return found, trouble


def suggestion(device):
    """(tier, precision) to begin with on a device."""
    if device == "cpu":
        return "smoke", "fp32"
    return "quick", environment.half(device)


def attempt(recipe, device, precision, name, seconds):
    """{"milliseconds", "device_seconds", "agreement": with the plain step} of an iteration, or {"failed": why}.

    The network is the recipe's, on as large images in as large batches, on one thread on a CPU.
    """
    side, protocol = SIZES[recipe.dataset][0], recipe.protocol
    spec = replace(recipe.network, channels=3, classes=10)
    images, _ = Images.pair(bench.dataset(side, n=2 * protocol.batch), protocol.normalisation, device)
    try:
        with process_kept(), stream(device):
            torch.set_num_threads(1)
            step = Step(spec, images, protocol, 0, device, precision)
            step.batches.bring(0)
            way = Way(step) if name == PLAIN else recorded(step, name)
            wall, busy = per_iteration(step, way.take, seconds)
            return {"milliseconds": 1000 * wall, "device_seconds": busy, "agreement": way.agreement}
    except Exception as error:  # of the compiler, the capture, the check, the device: what a doctor is asked for
        return {"failed": (str(error).strip() or type(error).__name__).splitlines()[0]}


def per_iteration(step, take, seconds):
    """(seconds, device seconds) that an iteration takes, after one that does not count: see `training.state.Clock`."""
    last = len(step.rates) - 1
    for iteration in range(last):
        step.batches.bring(iteration)
        take()
        if iteration == 0:
            environment.wait(step.device)
            begin, began_busy = time.perf_counter(), time.process_time()
        elif time.perf_counter() - begin > seconds:
            break
    environment.wait(step.device)
    wall, busy = time.perf_counter() - begin, time.process_time() - began_busy
    return wall / iteration, (busy if step.device.type == "cpu" else wall) / iteration


def state_of(name):
    """Whether a data set's files are there, in words; training checks what is in them."""
    folder = data_dir()
    if any((folder / file).exists() for file in (f"{name}.npz", FOLDERS[name])):
        return f"found in {folder}"
    return f"not in {folder}; invoke data --dataset {name} brings it"


def tables(device, precision, measured):
    """(what they are estimated from, {tier: {table: device seconds of one seed of all its rows}}).

    As a dry run of `invoke reproduce` does it: from finished runs of this device and precision where there are any,
    else from `measured`, a `Cost`.
    """
    name = device_name(device)
    known = [cost for cost in costs.costs() if (cost.device, cost.precision) == (name, precision)]
    source = "from finished runs of this device" if known else "from the iteration above, a first guess"
    found = {}
    for tier in TIERS:
        runs = {str(table): plan(paper.rows(table), tier, [0]) for table in paper.TABLES}
        found[tier] = {table: costs.seconds(each, name, precision, known or [measured]) for table, each in runs.items()}
    return source, found


def text(found):
    """The examination as one screen of text."""
    chosen, software, gpu = found["suggested"], found["software"], found["environment"]
    free = f"free: {found['memory_gib']} GiB of its memory, {found['disk_gib']} GiB of disk"
    lines = [f"{found['device']}, {found['cores']} cores; {free}"]
    if gpu:
        lines.append(
            f"capability {gpu['capability']}, driver {gpu['driver']}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}"
        )
    triton = "with" if software["triton"] else "without"
    lines.append(f"Python {software['python']}, torch {software['torch']}, {triton} Triton")
    lines += [f"{name}: {state}" for name, state in found["data"].items()]
    rows = [("an iteration", "ms", "from a plain step, relative")]
    for name, result in found["ways"].items():
        apart = ", ".join(f"{key} {value:.1g}" for key, value in (result.get("agreement") or {}).items())
        took = f"{result['milliseconds']:.1f}" if "milliseconds" in result else "-"
        rows.append((name, took, result.get("failed", apart)))
    lines += ["", *grids.plain(rows), ""]
    lines.append(
        f"suggested: --tier {chosen['tier']} --precision {chosen['precision']}; runs at once: {chosen['at_once']}"
    )
    if found["device_seconds_of_tables"]:
        rows = [("table, one seed", *TIERS)]
        for table in paper.TABLES:
            each = (in_tier[str(table)] for in_tier in found["device_seconds_of_tables"].values())
            rows.append((str(table), *map(duration, each)))
        lines += ["", *grids.plain(rows)]
        lines.append(
            f"device time, a CPU's cores added up, as a dry run of `invoke reproduce` estimates it: "
            f"{found['estimated_from']}, in proportion to multiply-adds"
        )
    return "\n".join(part for line in lines for part in fitted(line))


def fitted(line):
    """A line cut at its spaces into lines of WIDTH; what has no space (a path) stays whole."""
    options = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return [line] if len(line) <= WIDTH else textwrap.wrap(line, WIDTH, **options)


def as_json(found, trouble):
    """The examination as JSON."""
    return json.dumps(found | {"trouble": trouble}, indent=1)
