"""What the processes run that `test_distributed.py` starts by torchrun: tiny nets on a few drawn pictures.

python -m torch.distributed.run --nproc-per-node 2 by_torchrun.py
    measure <out> <part> ... | rejoin <out> | train <arguments> | apart <arguments>
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed import distributed_c10d

from identity_mappings.__main__ import main as commands
from identity_mappings.data import imagenet
from identity_mappings.data.pictures import Pictures, Share
from identity_mappings.experiments.protocols import IMAGENET
from identity_mappings.nets.networks import cifar_spec, imagenet_spec, initialised
from identity_mappings.training import distributed, loop
from identity_mappings.training.imagenet import SharedStep
from identity_mappings.weights import evaluation

DTYPES = (torch.float32, torch.float64)
PROTOCOL = replace(
    IMAGENET.shortened(12),
    learning_rate=0.05,
    batch=16,
    bn_group=4,
    crop=32,
    shorter=(36, 60),
    tests=(("trained", 36, 32), ("larger", 46, 46)),
)
NETWORK = imagenet_spec(50, order="full pre-activation", widths=(2, 4, 6, 8), classes=10)
SHALLOW = cifar_spec(8, order="full pre-activation")
# A value that rounding takes to the other side of a ReLU changes a gradient by far more than rounding does. In float32
# a net of this few activations meets none in ten steps, as a rule; in float64 no net does.
SMALL = cifar_spec(8, order="full pre-activation", widths=(4, 8, 12))
SMALL_CROPS = replace(PROTOCOL, crop=16)


def steps(part, dtype=torch.float32):
    """Ten steps on shares of a batch of 16, in parts of `part` images; returns all that they changed."""
    torch.set_default_dtype(dtype)  # of weights and of pictures
    try:
        files = imagenet.load("drawn").train
        share = Share(part, distributed.rank(), distributed.size())
        step = SharedStep(SMALL, Pictures(files, SMALL_CROPS, share=share), SMALL_CROPS, 0, "cpu", "fp32")
        if distributed.size() > 1:
            step.rehearse()
        for iteration in range(10):
            step.batches.bring(iteration)
            step()
    finally:
        torch.set_default_dtype(torch.float32)
    step.settle()
    return step.tensors()


def evaluate():
    """The scores of a net at both crops, by as many processes as there are; it knows the statistics of noise."""
    network, files, scores = initialised(SHALLOW, 1).train(), evaluation.test_files("drawn"), []
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(30):
            network(torch.randn(64, 3, 32, 32, generator=random))
    for _, _, crop in PROTOCOL.tests:
        share = distributed.rank(), distributed.size()
        batches, *_ = evaluation.folder_batches(SHALLOW, files, None, crop, 5, PROTOCOL.tests, share)
        scores.append(evaluation.score(network, batches, total=distributed.total))
    return scores


def rejoin(out):
    """Die in the first start before joining, in the second after it; write what the third finds.

    Each start leaves a word in the group's store, as Gloo leaves addresses: found, in order, are those that it saw.
    """
    start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), distributed.rank()
    if start == 0 and rank == 0:
        time.sleep(1)  # the other writes that it is there
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(rank * start * 0.5)
    with distributed.joined("cpu"):
        store = distributed_c10d._get_default_store()
        found = [str(each) for each in range(start) if store.check([str(each)])]
        found = [start, sorted(distributed.union(found))]
        store.set(str(start), "was here")
        if start == 1:
            torch.distributed.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 0:
            Path(out).write_text(json.dumps(found))


def main(what, *arguments):
    torch.set_num_threads(1)
    if what == "rejoin":
        return rejoin(*arguments)
    if what == "apart":  # as on two machines that share no results folder
        os.environ["IDENTITY_MAPPINGS_RESULTS"] += f"-{distributed.rank()}"
    if what in ("train", "apart"):
        loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_SHARE = 0  # after every iteration
        sys.exit(commands(["train", *arguments]))
    out, *parts = arguments
    with distributed.joined("cpu"):
        found = {"steps": {(int(part), dtype): steps(int(part), dtype) for part in parts for dtype in DTYPES}}
        found["scores"] = evaluate()
        if distributed.rank() == 0:
            torch.save(found, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
