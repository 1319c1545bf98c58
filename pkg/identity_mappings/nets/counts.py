"""What a network costs, counted from its layers: parameters, multiplications, activations, a training step's memory."""

from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import nn

from .networks import NetworkSpec

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
    """The `Counts` of a specification's network on images of `size`, (height, width); nothing is computed."""
    network, times = _outline(spec)
    elements, widest, macs = [], [], []

    def note(module, _, output):
        if isinstance(module, nn.Conv2d):
            widest.append(output.numel())
            elements.append(times[module] * output.numel())
        macs.append(times[module] * output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.empty(1, spec.channels, *size, device="meta"))
    return Counts(sum(elements), max(widest), sum(macs))


@lru_cache
def parameters(spec):
    """The number of a specification's trained parameters."""
    network, times = _outline(spec)
    each = ((module, parameter) for module in network.modules() for parameter in module.parameters(recurse=False))
    return sum(times[module] * parameter.numel() for module, parameter in each)


class _Outlined(NetworkSpec):
    """A specification with two units a stage at most: all that are alike behind a stage's first are one."""

    @property
    def units(self):
        return tuple(min(number, 2) for number in super().units)


def _outline(spec):
    """(the outlined network, without memory; {each of its modules: how often the whole network has it})."""
    outlined = _Outlined(**{field.name: getattr(spec, field.name) for field in fields(spec)})
    with torch.device("meta"):
        network = outlined.build().eval()
    repeats = [times for number in spec.units for times in ((1,) if number == 1 else (1, number - 1))]
    times = dict.fromkeys(network.modules(), 1)
    for unit, number in zip(network.units, repeats, strict=True):
        times |= dict.fromkeys(unit.modules(), number)
    return network, times


def activation_bytes(spec, size, batch, precision, recompute=False):
    """Bytes that a training step keeps for its backward pass, estimated.

    Each conv's output is kept for the BN after it and the BN-ReLU's output for the next conv: two copies of the
    elements. Recomputation keeps the inputs of about sqrt(units) stretches and the copies of one stretch at a time.
    """
    kept = 2 * count(spec, size).elements * batch * BYTES[precision]
    return int(kept * 2 / sum(spec.units) ** 0.5) if recompute else kept
