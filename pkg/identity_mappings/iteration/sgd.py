"""The paper's optimiser: SGD with momentum on flat buffers, what decays, and the two forms of the velocity."""

from itertools import groupby

import torch
from torch import nn

from ..nets.shortcuts import Gate
from ..nets.slots import Slots, joined


def decaying(network, protocol):
    """The network's parameters in two lists: those with the protocol's weight decay, and those with none."""
    spared = set()
    if not protocol.decay_bn:
        spared |= of_norms(network)
    if not protocol.decay_gate_bias:
        spared |= {id(module.bias) for module in network.modules() if isinstance(module, Gate)}
    parameters = list(network.parameters())
    return (
        [parameter for parameter in parameters if id(parameter) not in spared],
        [parameter for parameter in parameters if id(parameter) in spared],
    )


def of_norms(network):
    """The ids of the parameters of all BNs."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return {id(parameter) for module in norms for parameter in module.parameters()}


def flat(tensor, last=True):
    """The values of a tensor in one dimension, a conv's in channels_last order if `last`; a view where it lies so."""
    return (tensor.permute(0, 2, 3, 1) if last and tensor.ndim == 4 else tensor).reshape(-1)


def shaped(values, like, last=True):
    """The inverse of `flat`: a view of the values in the shape of `like`."""
    if not last or like.ndim != 4:
        return values.view(like.shape)
    return values.view(*(like.shape[axis] for axis in (0, 2, 3, 1))).permute(0, 3, 1, 2)


class SGD:
    """The velocity and the update of a network whose parameters become views of one buffer, `weights`.

    PyTorch keeps v = m v + g and steps by rate v; Caffe keeps v = m v + rate g and steps by v. They are the same but
    for the iterations after a change of rate. Bit for bit torch.optim.SGD on a CPU (its oracle in the tests), in a
    handful of operations for any number of parameters. The convs' weights lie in the buffers as they lay before, in
    channels_last or not, each parameter in a slot of its own (`Slots`).
    """

    def __init__(self, network, protocol):
        self.protocol = protocol
        norms = of_norms(network)
        decayed, spared = (sorted(each, key=lambda p: id(p) in norms) for each in decaying(network, protocol))
        # in this order in the buffers, so that decay is a slice, and so are the gradients of one type
        self.parameters = decayed + spared
        convs = [parameter for parameter in self.parameters if parameter.ndim == 4]
        self.last = all(conv.is_contiguous(memory_format=torch.channels_last) for conv in convs)
        self.slots = Slots(parameter.numel() for parameter in self.parameters)
        self.decayed = len(Slots(parameter.numel() for parameter in decayed))
        self.weights = joined([flat(parameter.detach(), self.last) for parameter in self.parameters])
        self.velocity = torch.zeros_like(self.weights)  # there from the start: no first step unlike the others
        for parameter, view in zip(self.parameters, self.views(self.weights), strict=True):
            parameter.data = view

    def views(self, buffer):
        """The slots of a buffer that is laid out as `weights`, each in the shape of its parameter, in their order."""
        parts = zip(self.slots.split(buffer), self.parameters, strict=True)
        return [shaped(part, parameter, self.last) for part, parameter in parts]

    def packed(self, buffer):
        """The values of a buffer as a checkpoint keeps them: convs in channels_last order, nothing between slots."""
        return torch.cat([flat(view) for view in self.views(buffer)])

    def fill(self, buffer, values):
        """The inverse of `packed`: the values into a buffer that is laid out as `weights`."""
        parts = values.split([parameter.numel() for parameter in self.parameters])
        for view, part in zip(self.views(buffer), parts, strict=True):
            view.copy_(shaped(part, view))

    @torch.no_grad()
    def step(self, gradients, rate, scale=None):
        """Update the parameters in place by their gradients, given in the order of `self.parameters`, of any type.

        rate: (1,), a tensor beside the weights and of their type, so that no step has a number of its own.
        scale: the `LossScale` of the loss whose gradients these are; then nothing changes unless all are finite, and
        whether they are is returned, as a (1,) bool.
        """
        flattened = (flat(gradient, self.last) for gradient in gradients)
        # type by type: a cat of mixed types copies tensor by tensor
        alike = [list(each) for _, each in groupby(flattened, key=lambda gradient: gradient.dtype)]
        parts = [joined(each).to(self.weights.dtype) for each in alike]
        return self.update(torch.cat(parts) if len(parts) > 1 else parts[0], rate, scale)

    def update(self, g, rate, scale):
        """`step` by the flat gradient, which is laid out as `weights` and is of no use afterwards."""
        if scale is None:
            self._move(g, rate)
            return None
        before, finite = (self.weights.clone(), self.velocity.clone()), scale.unscaled(g)
        self._move(g, rate)
        for buffer, old in zip((self.weights, self.velocity), before, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
        return finite

    def _move(self, g, rate):
        m, w, v = self.protocol.momentum, self.weights, self.velocity
        g[: self.decayed].add_(w[: self.decayed], alpha=self.protocol.weight_decay)
        if self.protocol.velocity == "caffe":
            v.mul_(m).addcmul_(g, rate)
            w.sub_(g.mul_(rate).add_(v, alpha=m) if self.protocol.nesterov else v)
        else:
            v.mul_(m).add_(g)
            w.addcmul_(g.add_(v, alpha=m) if self.protocol.nesterov else v, rate, value=-1)
