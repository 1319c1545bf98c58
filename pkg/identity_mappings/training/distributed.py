"""One run on several processes, as torchrun starts them: who they are, what they tell each other, what starts them.

torchrun --nproc-per-node 8 -m identity_mappings train --table 5 --row 200-pre-activation-320 --tier paper

Each process holds the network, takes its share of each batch, and ends each step with the same weights. Where one is
lost, torchrun starts all of them again, and they go on from the run's checkpoint. Without torchrun there is one.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import torch
from torch import distributed

from ..errors import UsageError

RESTARTS = 10  # of all processes, after one was lost
PATIENCE = timedelta(minutes=10)  # with a process that does not answer, before all are started again


def launched():
    """Whether torchrun started this process, as one of several or the only one."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank():
    """This process's number, from 0; the first one writes, prints and keeps the run's lock."""
    return int(os.environ["RANK"]) if launched() else 0


def size():
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def beside():
    """How many of them are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


@contextmanager
def joined(device):
    """A context in which the processes can tell each other things; each has a CUDA device of its own, or the CPU."""
    if not launched():
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    store, *_ = next(distributed.rendezvous("env://", timeout=PATIENCE))
    store = of_this_start(store, rank(), size())
    distributed.init_process_group(backend, store=store, rank=rank(), world_size=size(), timeout=PATIENCE)
    yield
    distributed.destroy_process_group()  # not after an error: the others may be gone, and this process goes too


def of_this_start(store, rank, size):
    """The part of torchrun's key-value store that belongs to the processes started together, one of each rank.

    torchrun keeps one store from its first start of the processes to the last (pytorch/pytorch#135712). What ended
    processes left there, such as the addresses at which they listened, those that follow would take for each other's,
    and wait for the dead. So each process writes a word of its own. All words together name the part; a word of an
    ended process among them names another part, in which the process that has its rank now is never ready.
    Raises DistStoreError, as torch's stores do, where a process stays away for as long as PATIENCE.
    """
    store.set(f"word of {rank}", uuid4().hex)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < deadline:
        name = ", ".join(store.get(f"word of {each}").decode() for each in range(size))  # waits for the first words
        store.set(f"{name}: {rank} is ready", "")
        if store.check([f"{name}: {each} is ready" for each in range(size)]):
            return distributed.PrefixStore(name, store)
        time.sleep(0.05)
    raise distributed.DistStoreError(f"not all of {size} processes joined within {PATIENCE.total_seconds():.0f} s")


def any_of(flag):
    """Whether the flag is set in any process; all of them must ask."""
    if size() == 1:
        return flag
    found = torch.tensor([int(flag)])
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return bool(found)


def total(tensor):
    """The sum of a tensor over the processes, in its place."""
    if size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def from_first(tensor):
    """The first process's tensor, in its place."""
    if size() > 1:
        distributed.broadcast(tensor, 0)
    return tensor


def union(found):
    """The union of the processes' sets of strings."""
    if size() == 1:
        return set(found)
    each = [None] * size()
    distributed.all_gather_object(each, set(found))
    return set().union(*each)


def agree(found):
    """Raises UsageError unless all processes found the same in the results folder, which machines must share."""
    if len(union({str(found)})) > 1:
        raise UsageError(
            "processes that train a run together must have one results folder; theirs hold different records or "
            "checkpoints: set $IDENTITY_MAPPINGS_RESULTS to a folder that all their machines share"
        )


def arguments(runs, device, precision, weights=False, budget=None):
    """The arguments of `train` that stand for these runs, which are of one table, tier and reduction."""
    first = runs[0]
    given = ["--table", str(first.row.table), "--tier", first.tier, "--device", device, "--precision", precision]
    for row in dict.fromkeys(run.row.id for run in runs):
        given += ["--row", row]
    for seed in dict.fromkeys(run.seed for run in runs):
        given += ["--seed", str(seed)]
    for name, value in vars(first.reduction).items():
        given += [] if value is None else [f"--{name}", str(value)]
    given += ["--budget", budget] if budget else []
    return given + ["--weights"] * weights


def command(processes, arguments):
    """The command line that trains with that many processes on this machine; arguments: those of `train`."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*torchrun, "--max-restarts", str(RESTARTS), "-m", "identity_mappings", "train", *arguments]


def run(processes, arguments):
    """Run that command; returns its exit status, and waits for it after Ctrl-C, for it got the same signal."""
    with subprocess.Popen(command(processes, arguments)) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                pass  # it keeps a checkpoint and ends


def check_runs(runs):
    """Raises UsageError unless several processes can train these runs together."""
    if any(run.row.table != 5 for run in runs):
        raise UsageError("--gpus is for Table 5, whose runs several GPUs share; others train side by side on one")


def check_devices(processes):
    """Raises UsageError unless this machine has that many CUDA devices."""
    found = torch.cuda.device_count()
    if not found:
        raise UsageError("--gpus needs CUDA devices; torch can use none here: leave it out, or see `invoke doctor`")
    if not 1 <= processes <= found:
        raise UsageError(f"--gpus must be from 1 to the CUDA devices that torch can use here, {found}; got {processes}")
