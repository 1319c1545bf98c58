"""What this machine has, what of it works, and what that means for the tables: `doctor` of both command lines.

It trains for seconds on random images, in each way in which the trainer can take an iteration, and writes nothing.
"""

import json
import platform
import shutil
import time
from dataclasses import replace
from importlib.util import find_spec

import torch

from .. import environment, grids
from ..data import SIZES, data_dir
from ..data.batches import Images
from ..experiments import paper
from ..experiments.runs import plan, results_dir
from ..hardware import be_exact, cores, device_name
from ..iteration import memory
from ..iteration.capture import PLAIN, WAYS, Way, recorded
from ..iteration.step import Step
from ..nets.counts import count
from ..results import records
from ..results.costs import duration
from ..training.loop import process_kept, stream
from . import bench

SECONDS = 2.0  # of training in each way
DEPTH = 20
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}  # torchvision's
ROOM = 1 << 30  # bytes of disk below which checkpoints and records are in danger


def examine(device, seconds=SECONDS):
    """All that `doctor` says, as plain JSON types, and None or the line that says what keeps runs from training."""
    be_exact(device)
    tier, precision = suggestion(device)
    recipe = plan(paper.rows(1, ["original"]), tier, [0])[0].recipe
    names = WAYS if device == "cuda" else [PLAIN]
    tried = {name: attempt(recipe, device, precision, name, seconds) for name in names}
    works = [result["milliseconds"] for result in tried.values() if "milliseconds" in result]
    place = next(folder for folder in (results_dir(), *results_dir().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    at_once = memory.side_by_side(device) if device == "cuda" else cores()
    share = 1 if device == "cuda" else cores()  # on a CPU each core has a run, and was measured with one
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
        "seconds_of_tables": tables(recipe, tier, min(works) / 1000, share) if works else {},
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
    """{"milliseconds": of an iteration, "agreement": with the plain step} of a way, or {"failed": why}.

    The network is the recipe's at DEPTH layers, on as large images in as large batches, on one thread on a CPU.
    """
    side, protocol = SIZES[recipe.dataset][0], recipe.protocol
    spec = replace(recipe.network, depth=DEPTH, channels=3, classes=10)
    images, _ = Images.pair(bench.dataset(side, n=2 * protocol.batch), protocol.normalisation, device)
    try:
        with process_kept(), stream(device):
            torch.set_num_threads(1)
            step = Step(spec, images, protocol, 0, device, precision)
            step.batches.bring(0)
            way = Way(step) if name == PLAIN else recorded(step, name)
            return {"milliseconds": 1000 * per_iteration(step, way.take, seconds), "agreement": way.agreement}
    except Exception as error:  # of the compiler, the capture, the check, the device: what a doctor is asked for
        return {"failed": (str(error).strip() or type(error).__name__).splitlines()[0]}


def per_iteration(step, take, seconds):
    """Seconds that an iteration takes, after one that does not count."""
    last = len(step.rates) - 1
    for iteration in range(last):
        step.batches.bring(iteration)
        take()
        if iteration == 0:
            environment.wait(step.device)
            begin = time.perf_counter()
        elif time.perf_counter() - begin > seconds:
            break
    environment.wait(step.device)
    return (time.perf_counter() - begin) / iteration


def state_of(name):
    """Whether a data set's files are there, in words; training checks what is in them."""
    folder = data_dir()
    if any((folder / file).exists() for file in (f"{name}.npz", FOLDERS[name])):
        return f"found in {folder}"
    return f"not in {folder}; invoke data --dataset {name} brings it"


def tables(recipe, tier, seconds, at_once):
    """{table: {"one_seed", "paper"}}: seconds for one seed of its rows in the tier, and for the paper tier's five.

    By the measured seconds of an iteration, in proportion to the elements that convolutions put out.
    """
    spec = replace(recipe.network, depth=DEPTH, channels=3, classes=10)
    unit = seconds / (count(spec, SIZES[recipe.dataset]).elements * recipe.protocol.batch) / at_once

    def all_of(table, in_tier, seeds):
        planned = plan(paper.rows(table), in_tier, seeds)
        runs = {(records.recipe_hash(run.recipe), run.seed): run.recipe for run in planned}
        sizes = (
            count(each.network, SIZES[each.dataset]).elements * each.protocol.batch * each.protocol.iterations
            for each in runs.values()
        )
        return unit * sum(sizes)

    return {
        str(table): {"one_seed": all_of(table, tier, [0]), "paper": all_of(table, "paper", range(5))}
        for table in paper.TABLES
    }


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
    rows = [("table", f"a seed, {chosen['tier']} tier", "five seeds, paper tier")]
    for table, each in found["seconds_of_tables"].items():
        rows.append((table, duration(each["one_seed"]), duration(each["paper"])))
    lines += grids.plain(rows) if len(rows) > 1 else []
    lines.append("estimated from a net of 20 layers: a first guess, within a factor of two or three")
    return "\n".join(lines)


def as_json(found, trouble):
    """The examination as JSON."""
    return json.dumps(found | {"trouble": trouble}, indent=1)
