"""Whether a run fits, from what its network keeps for the backward pass and from what the device has free."""

from itertools import accumulate

import torch

from ..nets.counts import activation_bytes

SLACK = 1.3  # times the estimate: gradients on their way, workspaces, and what an allocator cannot use
FIXED = 1 << 30  # bytes besides: CUDA's own, the data set, an evaluation


def need(recipe, size, precision, recompute=False):
    """Bytes that a run takes while it trains on images of `size`, (height, width), estimated from above."""
    kept = activation_bytes(recipe.network, size, recipe.protocol.batch, precision, recompute)
    return int(SLACK * kept) + FIXED


def free(device):
    """Bytes that a CUDA device has for us: free, or held by torch without being used. None on a CPU."""
    if torch.device(device).type == "cpu":
        return None
    unused, _ = torch.cuda.mem_get_info(device)
    return unused + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


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
