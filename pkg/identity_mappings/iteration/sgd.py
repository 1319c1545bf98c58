"""The paper's optimiser: SGD with momentum on flat buffers, what decays, and the two forms of the velocity."""

from itertools import groupby

import torch
from torch import nn

from ..nets.shortcuts import Gate


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


def flat(tensor):
    """The values of a tensor in one dimension, a conv's in channels_last order; a view where it lies so."""
    return (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1)


def shaped(values, like):
    """The inverse of `flat`: a view of the values in the shape of `like`, a conv's in channels_last."""
    if like.ndim != 4:
        return values.view(like.shape)
    return values.view(*(like.shape[axis] for axis in (0, 2, 3, 1))).permute(0, 3, 1, 2)


class SGD:
    """The velocity and the update of a network whose parameters become views of one buffer, `weights`.

    PyTorch keeps v = m v + g and steps by rate v; Caffe keeps v = m v + rate g and steps by v. They are the same but
    for the iterations after a change of rate. Bit for bit torch.optim.SGD on a CPU (its oracle in the tests), in a
    handful of operations for any number of parameters.
    """

    def __init__(self, network, protocol):
        self.protocol = protocol
        norms = of_norms(network)
        decayed, spared = (sorted(each, key=lambda p: id(p) in norms) for each in decaying(network, protocol))
        # in this order in the buffers, so that decay is a slice, and so are the gradients of one type
        self.parameters = decayed + spared
        self.decayed = sum(parameter.numel() for parameter in decayed)
        self.weights = torch.cat([flat(parameter.detach()) for parameter in self.parameters])
        self.velocity = torch.zeros_like(self.weights)  # there from the start: no first step unlike the others
        for parameter, view in zip(self.parameters, self.views(self.weights), strict=True):
            parameter.data = view

    def views(self, buffer):
        """The parts of a buffer that is laid out as `weights`, each in the shape of its parameter, in their order."""
        parts = buffer.split([parameter.numel() for parameter in self.parameters])
        return [shaped(part, parameter) for part, parameter in zip(parts, self.parameters, strict=True)]

    @torch.no_grad()
    def step(self, gradients, rate):
        """Update the parameters in place by their gradients, given in the order of `self.parameters`, of any type.

        rate: (1,), a tensor beside the weights and of their type, so that no step has a number of its own.
        """
        m, w, v = self.protocol.momentum, self.weights, self.velocity
        # type by type: a cat of mixed types copies tensor by tensor
        alike = [list(each) for _, each in groupby(map(flat, gradients), key=lambda gradient: gradient.dtype)]
        parts = [torch.cat(each).to(w.dtype) for each in alike]
        g = torch.cat(parts) if len(parts) > 1 else parts[0]
        g[: self.decayed].add_(w[: self.decayed], alpha=self.protocol.weight_decay)
        if self.protocol.velocity == "caffe":
            v.mul_(m).addcmul_(g, rate)
            w.sub_(g.mul_(rate).add_(v, alpha=m) if self.protocol.nesterov else v)
        else:
            v.mul_(m).add_(g)
            w.addcmul_(g.add_(v, alpha=m) if self.protocol.nesterov else v, rate, value=-1)
