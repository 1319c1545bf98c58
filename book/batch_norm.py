"""Whether the layout in which a CPU computes BN moves a result: measures what the book's page of choices shows of it.

python book/batch_norm.py --seeds 5      both layouts against double precision, then pairs of runs; a run that has its
                                         record is not trained again

The trainer's tensors are channels_last. In float32 on a CPU, PyTorch's BN for that layout rounds more than the one for
contiguous tensors. Here every BN can be given contiguous tensors instead; all else stays as the trainer has it.
"""

import argparse
import json
import platform
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pkg"))

from identity_mappings.experiments import paper  # noqa: E402
from identity_mappings.experiments.protocols import Reduction  # noqa: E402
from identity_mappings.experiments.runs import Run, place  # noqa: E402
from identity_mappings.nets.networks import cifar_spec, initialised  # noqa: E402
from identity_mappings.nets.norm import BatchNorm2d, set_group  # noqa: E402
from identity_mappings.training.loop import device_name, train  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "batch-norm"
LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
ROWS = ("110-original", "110-full-pre-activation")
CUT = Reduction(depth=56, iterations=300)


@contextmanager
def layout(name):
    """A context in which every BN computes in that layout."""
    forward = BatchNorm2d.forward
    BatchNorm2d.forward = lambda bn, x: forward(bn, x.contiguous(memory_format=LAYOUTS[name]))
    try:
        yield
    finally:
        BatchNorm2d.forward = forward


def off(value, exact):
    """The distance of two lists of tensors, relative to the length of the second."""
    distance = sum((one.double() - other).square().sum() for one, other in zip(value, exact, strict=True))
    return float((distance / sum(other.square().sum() for other in exact)).sqrt())


def outputs(dtype):
    """BN of one batch of 64 images of 16 channels, whose mean is as large as their standard deviation."""
    x = torch.randn(64, 16, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    bn = BatchNorm2d(16).to(dtype)
    return [bn(x.to(dtype)).detach()]


def gradients(dtype):
    """The first gradient of ResNet-110, full pre-activation, in BN groups of 64, on 128 random images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 3, 32, 32, dtype=torch.float64, generator=generator)
    labels = torch.randint(10, (128,), generator=generator)
    network = initialised(cifar_spec(110, order="full pre-activation"), seed=0).to(
        dtype, memory_format=torch.channels_last
    )
    set_group(network, 64)
    network.recompute = True  # for a machine with little memory; the gradients are the same bits
    return torch.autograd.grad(F.cross_entropy(network.train()(x.to(dtype)), labels), list(network.parameters()))


def kernels():
    """The relative errors in float32, by what is computed and by layout."""
    errors = {}
    for name, compute in {"output": outputs, "gradient": gradients}.items():
        with layout("contiguous"):
            exact = compute(torch.float64)
        errors[name] = {}
        for each in LAYOUTS:
            with layout(each):
                errors[name][each] = off(compute(torch.float32), exact)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"errors": errors, "device": device_name("cpu"), "threads": torch.get_num_threads(), "versions": versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of runs of each row; default: 5")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "kernels.json").write_text(json.dumps(kernels(), indent=2) + "\n")
    for seed in range(seeds):
        for row in paper.rows(2, ROWS):
            for name in LAYOUTS:
                with layout(name):
                    record = train(Run(*place(row, ""), "smoke", seed, CUT), threads=1, results=FOLDER / name)
                print(row.id, name, seed, record["test_error"], flush=True)


if __name__ == "__main__":
    main()
