"""One iteration of training: batch, loss, gradients, update, as one function of state that lies on the device.

The same lines run eagerly on any device and, recorded once, as a CUDA graph (capture.py). Nothing in them depends on
a number that the host holds: the iteration is a counter on the device, from which the batch and the rate follow.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from ..data.batches import Batches
from ..nets.networks import initialise
from ..nets.norm import BatchNorm2d, RunningStatistics, set_group
from ..nets.units import ResidualUnit
from .sgd import SGD

# fp32 throughout; bf16: torch's autocast, in which the signal along the shortcuts is bfloat16 as well; and the same
# with that signal in float32 from the stem to the classifier
PRECISIONS = ("fp32", "bf16", "bf16-skip-fp32")


class Step:
    """What an iteration reads and writes, all on one device, and the iteration: calling it takes one.

    network: as a run's recipe specifies it, its weights drawn from the seed. images: the training `Images`.
    precision: of PRECISIONS. recompute: see `ResNet`; the numbers are the same.
    Every tensor of `tensors` stays at its address for as long as the object lives.
    """

    def __init__(self, spec, images, protocol, seed, device, precision, recompute=False):
        self.device, self.precision = torch.device(device), precision
        network = initialise(spec.build(), torch.Generator().manual_seed(seed))
        for module in network.modules():
            if isinstance(module, BatchNorm2d):
                module.momentum, module.eps = protocol.bn_momentum, protocol.bn_eps
        set_group(network, protocol.bn_group)
        if precision == "bf16-skip-fp32":
            for module in network.modules():
                if isinstance(module, ResidualUnit):
                    module.resize.register_forward_hook(_widened)
        network.recompute = recompute
        self.network = network.to(self.device, memory_format=torch.channels_last).train()
        self.batches = Batches(images, protocol, seed)
        self.sgd = SGD(self.network, protocol)
        self.copies = Copies(self.network, self.sgd, torch.bfloat16 if precision != "fp32" else None)
        self.statistics = RunningStatistics(self.network, protocol.bn_momentum)
        rates = [protocol.rate(iteration) for iteration in range(protocol.iterations)]
        self.rates = torch.tensor(rates, dtype=self.sgd.weights.dtype, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=self.device)

    def __call__(self):
        images, labels = self.batches.at(self.counter)
        with self.copies.read():
            with self.autocast():
                logits = self.network(images)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels)
            gradients = torch.autograd.grad(loss, self.copies.leaves)
        self.sgd.step(gradients, self.rates.index_select(0, self.counter))
        self.statistics.update()
        self.loss_sum += loss.detach()
        self.wrong_sum += (logits.detach().argmax(1) != labels).sum()
        self.counter += 1

    def autocast(self):
        """The context in which the network runs at this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision != "fp32")

    def tensors(self):
        """All that an iteration changes and the next reads, by name; the layout follows from the recipe."""
        return {
            "counter": self.counter,
            "weights": self.sgd.weights,
            "velocity": self.sgd.velocity,
            "running": self.statistics.running,
            "loss_sum": self.loss_sum,
            "wrong_sum": self.wrong_sum,
        }


class Copies:
    """The weights that autocast would cast one by one, each iteration anew, cast in one operation; the same numbers.

    They are those of convolutions and of the classifier. dtype: autocast's, None for no autocast and no copies.
    leaves: what the gradients of an iteration are taken with respect to, in the order of `sgd.parameters`.
    """

    def __init__(self, network, sgd, dtype):
        self.weights, self.layers, self.leaves = sgd.weights, [], list(sgd.parameters)
        if dtype is None:
            return
        self.buffer = torch.empty_like(sgd.weights, dtype=dtype)
        place, views = {id(p): i for i, p in enumerate(sgd.parameters)}, sgd.views(self.buffer)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for name, parameter in layer.named_parameters(recurse=False):
                    # .data: to autograd each is a leaf of its own, not a view of what the next iteration overwrites
                    copy = nn.Parameter(views[place[id(parameter)]].data)
                    self.leaves[place[id(parameter)]] = copy
                    self.layers.append((layer, name, parameter, copy))

    @contextmanager
    def read(self):
        """A context in which the layers read copies of the weights as they are when it begins."""
        if self.layers:
            self.buffer.copy_(self.weights)
        try:
            for layer, name, _, copy in self.layers:
                setattr(layer, name, copy)
            yield
        finally:
            for layer, name, parameter, _ in self.layers:
                setattr(layer, name, parameter)


def _widened(module, inputs, x):
    """Hook of a unit's `resize`: x in float32, and so, by type promotion, y = x + F."""
    return x.float()
