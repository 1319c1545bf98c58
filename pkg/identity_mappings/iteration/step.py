"""One iteration of training: batch, loss, gradients, update, as one function of state that lies on the device.

The same lines run eagerly on any device and, recorded once, as a CUDA graph (capture.py). Nothing in them depends on
a number that the host holds: the iteration is a counter on the device, from which the batch and the rate follow.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from ..nets.networks import initialise
from ..nets.norm import BatchNorm2d, RunningStatistics, set_group
from ..nets.precisions import PRECISIONS, autocast
from ..nets.units import ResidualUnit
from .scale import LossScale
from .sgd import SGD


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
        if precision.endswith("skip-fp32"):
            for module in network.modules():
                if isinstance(module, ResidualUnit):
                    module.resize = _widened(module.resize)
        network.recompute = recompute
        self.memory_format = memory_format(self.device, precision)
        self.network = network.to(self.device, memory_format=self.memory_format).train()
        self.batches = images.batches(protocol, seed)
        self.sgd = SGD(self.network, protocol)
        self.copies = Copies(self.network, self.sgd, PRECISIONS[precision])
        self.scale = LossScale(self.device) if PRECISIONS[precision] is torch.float16 else None
        self.statistics = RunningStatistics(self.network, protocol.bn_momentum)
        rates = [protocol.rate(iteration) for iteration in range(protocol.iterations)]
        self.rates = torch.tensor(rates, dtype=self.sgd.weights.dtype, device=self.device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=self.device)

    def __call__(self):
        images, labels = self.batch()
        with self.copies.read():
            with self.autocast():
                logits = self.network(images)
            loss, wrong = self.loss(logits, labels)
            scaled = loss if self.scale is None else (loss * self.scale.scale).sum()
            gradients = torch.autograd.grad(scaled, self.copies.leaves)
        finite = self.sgd.step(gradients, self.rates.index_select(0, self.counter), self.scale)
        self.account(loss.detach(), wrong, finite)

    # The three parts of an iteration that are neither network nor update; apart, for a compiler (capture.py).

    def batch(self):
        """Images (batch, c, h, w) and labels (batch,) of the iteration."""
        images, labels = self.batches.at(self.counter)
        return images.contiguous(memory_format=self.memory_format), labels

    def loss(self, logits, labels):
        """(the mean cross-entropy of a batch, how many of its images the logits have wrong)."""
        logits = logits.float()
        return F.cross_entropy(logits, labels), (logits.detach().argmax(1) != labels).sum()

    def account(self, loss, wrong, finite):
        """Move the running statistics, unless the gradients were not finite; add to the sums; count the iteration."""
        self.statistics.update(finite)
        self.loss_sum.add_(loss)
        self.wrong_sum.add_(wrong)
        self.counter.add_(1)

    def autocast(self):
        """The context in which the network runs at this precision."""
        return autocast(self.precision, self.device)

    def tensors(self):
        """All that an iteration changes and the next reads, by name; the layout follows from the recipe."""
        return {
            "counter": self.counter,
            "weights": self.sgd.weights,
            "velocity": self.sgd.velocity,
            "running": self.statistics.running,
            "loss_sum": self.loss_sum,
            "wrong_sum": self.wrong_sum,
            **(self.scale.tensors() if self.scale else {}),
        }

    def packed(self):
        """`tensors` as a checkpoint keeps them, wherever they lie: on any device, in any memory format."""
        sgd, statistics = self.sgd, self.statistics
        return self.tensors() | {
            "weights": sgd.packed(sgd.weights),
            "velocity": sgd.packed(sgd.velocity),
            "running": statistics.slots.packed(statistics.running),
        }

    def unpack(self, saved):
        """Go on from what `packed` gave."""
        self.sgd.fill(self.sgd.weights, saved["weights"])
        self.sgd.fill(self.sgd.velocity, saved["velocity"])
        self.statistics.slots.fill(self.statistics.running, saved["running"])
        for name, tensor in self.tensors().items():
            if name not in ("weights", "velocity", "running"):
                tensor.copy_(saved[name])


def memory_format(device, precision):
    """How images, signals and weights lie: in channels_last, but in NCHW for float32 on CUDA.

    There, without TF32, NCHW is the faster one (pytorch issue 44943).
    """
    nchw = device.type == "cuda" and PRECISIONS[precision] is None
    return torch.contiguous_format if nchw else torch.channels_last


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


class Float32(nn.Module):
    """Its input in float32. A module and no hook, for Dynamo guards the first and not the second."""

    def forward(self, x):
        return x.float()


def _widened(resize):
    """A unit's `resize` whose output x is in float32, and so, by type promotion, y = x + F; names of weights stay."""
    return nn.Sequential(*resize, Float32()) if isinstance(resize, nn.Sequential) else nn.Sequential(resize, Float32())
