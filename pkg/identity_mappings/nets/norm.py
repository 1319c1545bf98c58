"""Batch normalisation whose statistics are those of one replica of the paper's data-parallel training."""

import torch
from torch import nn
from torch.nn import functional as F

from .slots import Slots, joined

# Of `Grouped`. They are no attributes of it: Dynamo does not compile a backward pass that names its own class.
PARTS = 8  # of a group, each with its own sums backward, of a small signal
SMALL = 1 << 20  # elements: 32 channels of 16x16 in a batch of 128


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that normalises each consecutive `group` images of a training batch by their own statistics.

    The paper's mini-batch of 128 ran "on 2 GPUs (64 each)" (appendix), so its BN saw 64 images at a time. The running
    statistics are those of the first group: the first replica's, which is the one that such training keeps.
    `group = None` normalises over the whole batch. Input and output (n, c, h, w). Evaluation is nn.BatchNorm2d's.

    A training pass updates the running statistics, unless `batch_mean` and `batch_var`, both (c,), are there: then it
    leaves the statistics of its first group in them, the variance over n - 1, and whoever put them there does the
    rest (`RunningStatistics`). Such a pass may be repeated, as recomputation does, without counting twice.

    Two ways to one function: PyTorch's kernels, group by group, and, where torch.compile reads this, `Grouped`.
    """

    group = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("batch_mean", None, persistent=False)
        self.register_buffer("batch_var", None, persistent=False)

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        group = self.group or len(x)
        if torch.compiler.is_compiling() and self.batch_mean is not None and len(x) % group == 0:
            y, mean, var = Grouped.apply(x, self.weight, self.bias, min(group, len(x)), self.eps)
            self.batch_mean.copy_(mean[0])
            self.batch_var.copy_(var[0])
            return y
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


class Grouped(torch.autograd.Function):
    """Batch normalisation of each `group` images by their own statistics, in the fewest kernels that a compiler makes.

    (x (n, c, h, w), weight (c,), bias (c,), group, eps) -> (y like x, mean and variance over n - 1, both (n/group, c)).
    The statistics are those of each image, then pooled: a pass over x, a small one over (n, c), and a pass that
    normalises, with what follows it; backward (in closed form) likewise. A small signal's sums backward are of an
    eighth of a group at a time: so few are added by the pass that uses them, which spares the small one. A large
    signal needs as many sums as it has images, to fill a device. Sums are in float32 at least.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, group, eps):
        signal = _wide(x)
        within, mean = torch.var_mean(signal, (2, 3), correction=0)  # (n, c), of each image
        within, mean = (each.unflatten(0, (-1, group)) for each in (within, mean))
        centre = mean.mean(1)  # (n/group, c)
        var = within.mean(1) + (mean - centre[:, None]).square().mean(1)
        scale = torch.rsqrt(var + eps)
        y = (signal.unflatten(0, (-1, group)) - _spread(centre)) * _spread(scale * weight) + bias[:, None, None]
        count = group * x.shape[2] * x.shape[3]
        unbiased = var * (count / max(count - 1, 1))
        ctx.save_for_backward(x, weight, centre, scale)
        ctx.group = group
        ctx.mark_non_differentiable(centre, unbiased)
        return y.flatten(0, 1).to(x.dtype), centre, unbiased

    @staticmethod
    def backward(ctx, slope, *_):
        x, weight, centre, scale = ctx.saved_tensors
        signal, slope = (_wide(each).unflatten(0, (-1, ctx.group)) for each in (x, slope))
        signal = signal - _spread(centre)
        parts = PARTS if x.numel() <= SMALL and ctx.group % PARTS == 0 else ctx.group
        # (n/group, group, c, h, w) -> (n/group, parts, c) -> (n/group, c)
        total, along = (each.unflatten(1, (parts, -1)).sum((2, 4, 5)).sum(1) for each in (slope, slope * signal))
        along = along * scale
        count = ctx.group * x.shape[2] * x.shape[3]
        centred = slope - _spread(total / count) - signal * _spread(along * scale / count)
        return (centred * _spread(scale * weight)).flatten(0, 1).to(x.dtype), along.sum(0), total.sum(0), None, None


def _wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _spread(values):
    """(n/group, c) -> (n/group, 1, c, 1, 1), beside (n/group, group, c, h, w)."""
    return values[:, None, :, None, None]


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
        self.slots = Slots(len(part) for part in parts)
        self.running = joined(parts)
        self.batch = torch.zeros_like(self.running)
        # .data: each view counts its own changes in place; else autograd takes a compiled unit's for one of all others
        views = zip(self.slots.split(self.running), [part.data for part in self.slots.split(self.batch)], strict=True)
        for norm in norms:
            (norm.running_mean, norm.batch_mean), (norm.running_var, norm.batch_var) = next(views), next(views)

    def update(self, where=None):
        """running = (1 - momentum) running + momentum batch; with `where`, a (1,) bool, only if that is true."""
        if where is None:
            self.running.lerp_(self.batch, self.momentum)
        else:
            self.running.copy_(torch.where(where, self.running.lerp(self.batch, self.momentum), self.running))
