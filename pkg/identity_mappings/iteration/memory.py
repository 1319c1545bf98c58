"""Whether a run fits, from what its network keeps for the backward pass and from what the machine has free."""

from itertools import accumulate

import torch

from ..nets.counts import BYTES, activation_bytes, count

SLACK = 1.3  # times the estimate: gradients on their way, workspaces, and what an allocator cannot use
SEEDS = 5  # of a row in the paper's tables
FIXED = 1 << 30  # bytes besides: CUDA's own, the data set, an evaluation


def need(recipe, size, precision, recompute=False):
    """Bytes that a run takes while it trains on images of `size`, (height, width), estimated from above."""
    kept = activation_bytes(recipe.network, size, recipe.protocol.batch, precision, recompute)
    return int(SLACK * kept) + FIXED


def free(device):
    """Bytes that a CUDA device has for us, once torch has given back what it can. None on a CPU.

    What torch holds without using it is not free: most of it lies in the pools of recordings, each for its own.
    """
    if torch.device(device).type == "cpu":
        return None
    torch.cuda.empty_cache()
    unused, _ = torch.cuda.mem_get_info(device)
    return unused


def evaluated_at_once(spec, size, precision):
    """Images of `size`, (height, width), that an evaluation takes at a time on a CUDA device: what half of FIXED holds.

    It keeps about five signals of the widest layer, of four bytes an element where the skip is in float32.
    """
    width = 4 if precision == "bf16-skip-fp32" else BYTES[precision]
    return max(1, FIXED // 2 // (5 * count(spec, size).widest * width))


def side_by_side(device):
    """How many runs a CUDA device is large enough to train at once: one for each 20 multiprocessors, up to five seeds.

    By the model in book/trainer.md; a bench with --runs shows where it levels off. On a CPU five take turns.
    """
    if torch.device(device).type == "cpu":
        return SEEDS
    return min(SEEDS, max(1, torch.cuda.get_device_properties(device).multi_processor_count // 20))


def main():
    """Bytes of main memory that can be had; infinitely many, so that nothing is refused, where no /proc says it."""
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def at_once(needs, most, available):
    """How many runs of those `needs`, whichever they are, fit into `available` bytes at once: 1 to `most`."""
    largest = sorted(needs, reverse=True)[:most]
    return max(1, sum(total <= available for total in accumulate(largest)))


def recomputes(recipe, size, precision, available):
    """Whether a run should recompute activations: where keeping them does not fit into `available` bytes."""
    return available is not None and need(recipe, size, precision) > available
