"""The paper's optimiser: SGD with momentum on flat buffers, what decays, and the two forms of the velocity."""

import torch
from torch import nn

from ..shortcuts import Gate


def decaying(network, protocol):
    """The network's parameters in two lists: those with the protocol's weight decay, and those with none."""
    spared = set()
    if not protocol.decay_bn:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        spared |= {id(parameter) for module in norms for parameter in module.parameters()}
    if not protocol.decay_gate_bias:
        spared |= {id(module.bias) for module in network.modules() if isinstance(module, Gate)}
    parameters = list(network.parameters())
    return (
        [parameter for parameter in parameters if id(parameter) not in spared],
        [parameter for parameter in parameters if id(parameter) in spared],
    )


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
        decayed, spared = decaying(network, protocol)
        self.parameters = decayed + spared  # in this order in the buffers, so that decay is a slice
        self.decayed = sum(parameter.numel() for parameter in decayed)
        self.weights = torch.cat([flat(parameter.detach()) for parameter in self.parameters])
        self.velocity = torch.zeros_like(self.weights)  # there from the start: no first step unlike the others
        parts = self.weights.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.data = shaped(part, parameter)

    @torch.no_grad()
    def step(self, gradients, rate):
        """Update the parameters in place by their gradients, given in the order of `self.parameters`.

        rate: (1,), a tensor beside the weights and of their type, so that no step has a number of its own.
        """
        m, w, v = self.protocol.momentum, self.weights, self.velocity
        g = torch.cat([flat(gradient) for gradient in gradients])
        g[: self.decayed].add_(w[: self.decayed], alpha=self.protocol.weight_decay)
        if self.protocol.velocity == "caffe":
            v.mul_(m).addcmul_(g, rate)
            w.sub_(g.mul_(rate).add_(v, alpha=m) if self.protocol.nesterov else v)
        else:
            v.mul_(m).add_(g)
            w.addcmul_(g.add_(v, alpha=m) if self.protocol.nesterov else v, rate, value=-1)
