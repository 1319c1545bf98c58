"""Batch normalisation whose statistics are those of one replica of the paper's data-parallel training."""

import torch
from torch import nn
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that normalises each consecutive `group` images of a training batch by their own statistics.

    The paper's mini-batch of 128 ran "on 2 GPUs (64 each)" (appendix), so its BN saw 64 images at a time. The running
    statistics are those of the first group: the first replica's, which is the one that such training keeps.
    `group = None` normalises over the whole batch. Input and output (n, c, h, w). Evaluation is nn.BatchNorm2d's.
    """

    group = None

    def forward(self, x):
        if not self.training or self.group is None or len(x) <= self.group:
            return super().forward(x)
        first, *others = x.split(self.group)
        normalised = [super().forward(first)]
        normalised += [F.batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps) for part in others]
        return torch.cat(normalised)


def set_group(network, group):
    """Have every BN of the network normalise over `group` images at a time (None: over the whole batch)."""
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.group = group
