"""What a network costs, counted from its layers: parameters, multiplications, activations, a training step's memory."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn

from .networks import BRANCHES

BYTES = {"fp32": 4, "bf16": 2, "bf16-skip-fp32": 2, "fp16": 2}  # of an activation, by precision


@dataclass(frozen=True)
class Counts:
    """Of one image: elements put out by convolutions, by the one that puts out most, and multiply-adds, forward.

    Multiply-adds are those of convolutions and classifier.
    """

    elements: int
    widest: int
    macs: int

    @property
    def training_flops(self):
        """Of one image in a training step: two for a multiply-add; forward, and backward to input and to weights."""
        return 2 * 3 * self.macs


@lru_cache
def count(spec, size=(32, 32)):
    """The `Counts` of a specification's network on images of `size`, (height, width); nothing is computed.

    A deep net whose stages have as many units each is counted from two shallow ones: a further unit of each adds alike.
    """
    more = spec.units[0] - 2
    if more <= 0 or len(set(spec.units)) > 1 or spec.stem == "imagenet":
        return _counted(spec, size)
    convs = BRANCHES[spec.branch][0] * len(spec.widths)
    one, two = (_counted(replace(spec, depth=units * convs + 2), size) for units in (1, 2))
    elements, macs = (
        getattr(two, name) + more * (getattr(two, name) - getattr(one, name)) for name in ("elements", "macs")
    )
    return Counts(elements, two.widest, macs)


def _counted(spec, size):
    with torch.device("meta"):
        network = spec.build().eval()
        image = torch.empty(1, spec.channels, *size)
    elements, macs = [], []

    def note(module, _, output):
        if isinstance(module, nn.Conv2d):
            elements.append(output.numel())
        macs.append(output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(image)
    return Counts(sum(elements), max(elements), sum(macs))


@lru_cache
def parameters(spec):
    """The number of a specification's trained parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in spec.build().parameters())


def activation_bytes(spec, size, batch, precision, recompute=False):
    """Bytes that a training step keeps for its backward pass, estimated.

    Each conv's output is kept for the BN after it and the BN-ReLU's output for the next conv: two copies of the
    elements. Recomputation keeps the inputs of about sqrt(units) stretches and the copies of one stretch at a time.
    """
    kept = 2 * count(spec, size).elements * batch * BYTES[precision]
    return int(kept * 2 / sum(spec.units) ** 0.5) if recompute else kept
