"""One iteration of training: batch, loss, gradients, update, as one function of state that lies on the device.

The same lines run eagerly on any device and, recorded once, as a CUDA graph (capture.py). Nothing in them depends on
a number that the host holds: the iteration is a counter on the device, from which the batch and the rate follow.
"""

import torch
from torch.nn import functional as F

from ..data.batches import Batches
from ..networks import initialise
from ..norm import BatchNorm2d, RunningStatistics, set_group
from .sgd import SGD


class Step:
    """What an iteration reads and writes, all on one device, and the iteration: calling it takes one.

    network: as a run's recipe specifies it, its weights drawn from the seed. images: the training `Images`.
    Every tensor of `tensors` stays at its address for as long as the object lives.
    """

    def __init__(self, spec, images, protocol, seed, device, precision):
        self.device, self.precision = torch.device(device), precision
        network = initialise(spec.build(), torch.Generator().manual_seed(seed))
        for module in network.modules():
            if isinstance(module, BatchNorm2d):
                module.momentum, module.eps = protocol.bn_momentum, protocol.bn_eps
        set_group(network, protocol.bn_group)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.batches = Batches(images, protocol, seed)
        self.sgd = SGD(self.network, protocol)
        self.statistics = RunningStatistics(self.network, protocol.bn_momentum)
        rates = [protocol.rate(iteration) for iteration in range(protocol.iterations)]
        self.rates = torch.tensor(rates, dtype=self.sgd.weights.dtype, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=self.device)

    def __call__(self):
        images, labels = self.batches.at(self.counter)
        with self.autocast():
            logits = self.network(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, self.sgd.parameters)
        self.sgd.step(gradients, self.rates.index_select(0, self.counter))
        self.statistics.update()
        self.loss_sum += loss.detach()
        self.wrong_sum += (logits.detach().argmax(1) != labels).sum()
        self.counter += 1

    def autocast(self):
        """The context in which the network runs at this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

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
