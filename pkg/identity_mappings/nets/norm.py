"""Batch normalisation whose statistics are those of one replica of the paper's data-parallel training."""

import torch
from torch import nn
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that normalises each consecutive `group` images of a training batch by their own statistics.

    The paper's mini-batch of 128 ran "on 2 GPUs (64 each)" (appendix), so its BN saw 64 images at a time. The running
    statistics are those of the first group: the first replica's, which is the one that such training keeps.
    `group = None` normalises over the whole batch. Input and output (n, c, h, w). Evaluation is nn.BatchNorm2d's.

    A training pass updates the running statistics, unless `batch_mean` and `batch_var`, both (c,), are there: then it
    leaves the statistics of its first group in them, the variance over n - 1, and whoever put them there does the
    rest (`RunningStatistics`). Such a pass may be repeated, as recomputation does, without counting twice.
    """

    group = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("batch_mean", None, persistent=False)
        self.register_buffer("batch_var", None, persistent=False)

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        if self.group is None or len(x) <= self.group:
            return self._first(x)
        # split and cat beat, on a CPU, statistics over a (groups, group, c, h, w) view (4 to 8 times slower) and
        # groups folded into the channels (1.3 times); writing into one output instead of cat gains nothing but at 16
        # channels (14 %), for an autograd.Function of our own
        first, *others = x.split(self.group)
        return torch.cat([self._first(first), *(self._normalised(part, None, None, 0.0) for part in others)])

    def _first(self, x):
        if self.batch_mean is None:
            return super().forward(x)
        return self._normalised(x, self.batch_mean, self.batch_var, 1.0)  # "running" at momentum 1: these alone

    def _normalised(self, x, mean, var, momentum):
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, momentum, self.eps)


def set_group(network, group):
    """Have every BN of the network normalise over `group` images at a time (None: over the whole batch)."""
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.group = group


class RunningStatistics:
    """The running statistics of all BNs of a network, in one buffer that one operation updates.

    `running` and `batch` are flat: each BN's mean and variance in turn, of which the modules' buffers are views.
    """

    def __init__(self, network, momentum):
        self.momentum = momentum
        norms = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
        parts = [part for norm in norms for part in (norm.running_mean, norm.running_var)]
        self.running = torch.cat(parts)
        self.batch = torch.zeros_like(self.running)
        sizes = [len(part) for part in parts]
        # .data: each view counts its own changes in place; else autograd takes a compiled unit's for one of all others
        views = zip(self.running.split(sizes), [part.data for part in self.batch.split(sizes)], strict=True)
        for norm in norms:
            (norm.running_mean, norm.batch_mean), (norm.running_var, norm.batch_var) = next(views), next(views)

    def update(self):
        """running = (1 - momentum) running + momentum batch."""
        self.running.lerp_(self.batch, self.momentum)
