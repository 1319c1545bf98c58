"""One Residual Unit (Eqs. 1 and 2) that is, by its order and shortcut alone, every unit of Figs. 1, 2, 4 and 5."""

import math
from typing import NamedTuple

from torch import nn
from torch.nn import functional as F

from .norm import BatchNorm2d


class Conv(NamedTuple):
    """A weight layer of a residual branch: a square kernel, its output channels, its stride. BN follows, so no bias."""

    kernel: int
    channels: int
    stride: int = 1


def chain(words, channels, convs=()):
    """Modules for a stretch of the chain that starts on a signal of `channels` channels; the convs in turn."""
    modules, convs = [], iter(convs)
    for word in words:
        if word == "conv":
            kernel, out, stride = next(convs)
            modules.append(nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False))
            channels = out
        else:
            modules.append(BatchNorm2d(channels) if word == "bn" else nn.ReLU())
    return nn.Sequential(*modules)


class ZeroPad(nn.Module):
    """Parameter-free identity between two shapes: subsample by the stride, append zero channels (option A of [1])."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.stride, self.extra = stride, channels - channels_in

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class ResidualUnit(nn.Module):
    """x -> after(shortcut(resize(x), residual(x))), with x activated first where a stage opens.

    Arguments: the input's channels; the residual branch's convs; the order (Fig. 4); the shortcut (Fig. 2); how the
    shortcut changes dimensions where the branch does ("pad": option A of [1], "projection": option B); whether BN
    follows a projection (None: as the order has it, where BN follows the branch's last conv); where the activation of a
    stage opener lies ("both": before the split, as in the appendix; "branch": as in every other unit); whether this is
    the network's first unit, whose activation the stem has done already (appendix).
    """

    def __init__(
        self, channels_in, convs, order, shortcut, resize="pad", projection_bn=None, opening="both", first=False
    ):
        super().__init__()
        channels, stride = convs[-1].channels, math.prod(conv.stride for conv in convs)
        resizes = channels != channels_in or stride != 1
        opens = opening == "both" and (first or resizes)  # both paths read the activated signal (appendix)
        words = order.residual(len(convs))
        self.before = chain(order.lead if opens and not first else (), channels_in)
        self.residual = chain(words[len(order.lead) :] if opens else words, channels_in, convs)
        if not resizes or shortcut.resizes:
            self.resize = nn.Identity()
        elif resize == "pad":
            self.resize = ZeroPad(channels_in, channels, stride)
        else:
            bn = "bn" in order.projection if projection_bn is None else projection_bn
            self.resize = chain(("conv", "bn") if bn else ("conv",), channels_in, [Conv(1, channels, stride)])
        self.shortcut = shortcut.build(channels_in, channels, stride)
        self.after = chain(order.after, channels)

    def forward(self, x):  # (n, c, h, w) -> (n, c', h', w')
        x = self.before(x)
        y = self.shortcut(self.resize(x), self.residual(x))  # Eq. 1
        return self.after(y)  # Eq. 2
