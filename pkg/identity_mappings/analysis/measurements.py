"""What section 4.2 looks at inside a network: responses, truncation and gradients, unit by unit.

    for each in measure(network, images, labels):
        print(each.unit, each.negative, each.gradient)

Measuring leaves a run as it was: the parameters and their gradients, the running statistics, the random streams and
the modes of all modules. A network is measured in the mode it is in, so that one in training is seen as training
sees it, with BN's statistics of the batch.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from ..errors import UsageError
from ..nets.units import ResidualUnit


@dataclass(frozen=True)
class UnitMeasurement:
    """Of one Residual Unit and one batch; statistics are over images, channels and positions alike.

    unit: l, counted from 0.
    negative: the share of y_l (Eq. 1) below zero, 0 to 1.
    truncated: the share of the signal that f (Eq. 2) sets to zero: `negative` where f is a ReLU alone, 0 where f is
    the identity, and the share of BN's output below zero where BN stands between.
    signal: the root mean square of x_l, the unit's input. residual: of F(x_l), as the shortcut receives it.
    mean, deviation: of y_l.
    gradient: the Euclidean norm of dE/dx_l (Eq. 5) over the whole batch, E being the batch's mean cross-entropy.
    """

    unit: int
    negative: float
    truncated: float
    signal: float
    residual: float
    mean: float
    deviation: float
    gradient: float


def measure(network, images, labels):
    """A `UnitMeasurement` of each Residual Unit of `network`, in order, from one pass forth and back.

    images (n, c, h, w) and labels (n,) are on the network's device. Raises UsageError for a network without units.
    """
    units = [module for module in network.modules() if isinstance(module, ResidualUnit)]
    if not units:
        raise UsageError(f"only networks of Residual Units can be measured; got a {type(network).__name__} without one")
    inputs, outputs = [], []

    def enter(unit, arguments):
        inputs.append(arguments[0])

    def meet(shortcut, arguments, y):
        _, f = arguments
        values = y.detach().double()
        outputs.append([_below_zero(y), 0.0, _rms(inputs[-1]), _rms(f), values.mean(), values.std(correction=0)])

    def truncate(relu, arguments):
        outputs[-1][1] = _below_zero(arguments[0])

    with ExitStack() as hooks, torch.inference_mode(False), torch.enable_grad(), untouched(network) as buffers:
        for unit in units:
            hooks.enter_context(_removed(unit.register_forward_pre_hook(enter)))
            hooks.enter_context(_removed(unit.shortcut.register_forward_hook(meet)))
            for module in unit.after:
                if isinstance(module, nn.ReLU):
                    hooks.enter_context(_removed(module.register_forward_pre_hook(truncate)))
        images = images.detach().clone().requires_grad_()  # so that signals have gradients where weights are frozen
        loss = F.cross_entropy(functional_call(network, buffers, images), labels.clone())
        gradients = torch.autograd.grad(loss, inputs)
    norms = [gradient.norm() for gradient in gradients]
    rows = [[float(value) for value in (*stats, norm)] for stats, norm in zip(outputs, norms, strict=True)]
    return [UnitMeasurement(unit, *row) for unit, row in enumerate(rows)]


def columns(measurements):
    """The measurements as one list a column, by the name of the field."""
    return {field.name: [getattr(each, field.name) for each in measurements] for field in fields(UnitMeasurement)}


@contextmanager
def untouched(network):
    """Gives copies of the network's buffers for a pass to write to, and brings torch's random streams back after."""
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
        yield {name: buffer.clone() for name, buffer in network.named_buffers()}


@contextmanager
def _removed(handle):
    try:
        yield
    finally:
        handle.remove()


def _below_zero(x):
    return (x.detach() < 0).double().mean()


def _rms(x):
    return x.detach().double().pow(2).mean().sqrt()
