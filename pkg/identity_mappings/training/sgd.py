"""The paper's optimiser: SGD with momentum, its parameter groups, and the two forms of its velocity."""

import torch
from torch import nn

from ..shortcuts import Gate


def parameter_groups(network, protocol):
    """The parameters in two groups for torch.optim: with the protocol's weight decay, and with none."""
    spared = set()
    if not protocol.decay_bn:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        spared |= {id(parameter) for module in norms for parameter in module.parameters()}
    if not protocol.decay_gate_bias:
        spared |= {id(module.bias) for module in network.modules() if isinstance(module, Gate)}
    parameters = list(network.parameters())
    decayed = [parameter for parameter in parameters if id(parameter) not in spared]
    rest = [parameter for parameter in parameters if id(parameter) in spared]
    groups = [{"params": decayed, "weight_decay": protocol.weight_decay}]
    return groups + ([{"params": rest, "weight_decay": 0.0}] if rest else [])


class SGD:
    """torch.optim.SGD on the protocol's schedule.

    PyTorch keeps v = m v + g and steps by rate v; Caffe keeps v = m v + rate g and steps by v. They are the same but
    for the iterations after a change of rate, so that Caffe's is PyTorch's with v rescaled by old/new at each change.
    """

    def __init__(self, network, protocol):
        self.protocol = protocol
        self.torch = torch.optim.SGD(
            parameter_groups(network, protocol),
            lr=protocol.rate(0),
            momentum=protocol.momentum,
            nesterov=protocol.nesterov,
        )

    def step(self, iteration):
        """Update the parameters by their gradients, at the rate of that iteration."""
        rate, before = self.protocol.rate(iteration), self.torch.param_groups[0]["lr"]
        if rate != before:
            for group in self.torch.param_groups:
                group["lr"] = rate
            if self.protocol.velocity == "caffe":
                for state in self.torch.state.values():
                    state["momentum_buffer"].mul_(before / rate)
        self.torch.step()
        self.torch.zero_grad(set_to_none=True)
