"""The ways in which the shortcut and the residual meet: Fig. 2, one class for each of its panels.

Each module is called as `shortcut(x, f)` with the signal x and the residual f = F(x), both (n, c, h, w), and returns
their sum, y of Eq. 1. A `Shortcut` names one of them with its constants, as a row of Table 1 does.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UsageError, choose, is_number
from .norm import BatchNorm2d


class Identity(nn.Module):
    """x + f. Fig. 2(a), Eq. 3."""

    def forward(self, x, f):
        return x + f


class Scaled(nn.Module):
    """a x + b f, constant scaling. Fig. 2(b), Eq. 6; a = 0 is the plain net, which has no shortcut at all."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x, f):
        return self.b * f if self.a == 0 else self.a * x + self.b * f


class Gate(nn.Module):
    """g(x) = sigmoid(W x + b), a 1x1 convolution whose bias starts at `bias` (section 3.1).

    `bn` puts a BN right after the convolution, as Fig. 2's caption may be read; the BN's shift is then b_g.
    """

    def __init__(self, channels, bias, bn=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=not bn)
        self.bn = BatchNorm2d(channels) if bn else None
        self.initial_bias = bias

    @property
    def bias(self):
        """The parameter b_g, (c,)."""
        return self.conv.bias if self.bn is None else self.bn.bias

    def forward(self, x):
        z = self.conv(x)
        return torch.sigmoid(z if self.bn is None else self.bn(z))


class ExclusiveGate(nn.Module):
    """(1 - g) x + g f. Fig. 2(c)."""

    def __init__(self, channels, bias, bn=False):
        super().__init__()
        self.gate = Gate(channels, bias, bn)

    def forward(self, x, f):
        g = self.gate(x)
        return (1 - g) * x + g * f


class ShortcutGate(nn.Module):
    """(1 - g) x + f, shortcut-only gating. Fig. 2(d)."""

    def __init__(self, channels, bias, bn=False):
        super().__init__()
        self.gate = Gate(channels, bias, bn)

    def forward(self, x, f):
        return (1 - self.gate(x)) * x + f


class Conv1x1(nn.Module):
    """bn(W x) + f: a learned 1x1 convolution in place of the identity, strided where f is. Fig. 2(e)."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        self.bn = BatchNorm2d(channels)

    def forward(self, x, f):
        return self.bn(self.conv(x)) + f


class Dropout(nn.Module):
    """drop(x) + f. Fig. 2(f).

    Without `rescale` a kept value stays as it is and evaluation multiplies by 1 - p, as in the paper's reference [11]
    and as its "scale with an expectation of 0.5" says. With it (nn.Dropout, Caffe's layer) a kept value is divided by
    1 - p, and the expectation is 1.
    """

    def __init__(self, p, rescale=False):
        super().__init__()
        self.p, self.rescale = p, rescale

    def forward(self, x, f):
        kept = F.dropout(x, self.p, self.training)
        return (kept if self.rescale else (1 - self.p) * kept) + f


# kind -> (class, the options it takes with their defaults; None: must be given, the options that follow from the place)
KINDS = {
    "identity": (Identity, {}, ()),
    "scaled": (Scaled, {"a": None, "b": None}, ()),
    "exclusive gate": (ExclusiveGate, {"bias": None, "bn": False}, ("channels",)),
    "shortcut-only gate": (ShortcutGate, {"bias": None, "bn": False}, ("channels",)),
    "1x1 conv": (Conv1x1, {}, ("channels_in", "channels", "stride")),
    "dropout": (Dropout, {"p": None, "rescale": False}, ()),
}


@dataclass(frozen=True)
class Shortcut:
    """A shortcut's kind and constants, as `shortcut("scaled", a=0.5, b=0.5)` makes it. Hashable, and plain JSON."""

    kind: str = "identity"
    options: tuple = ()

    def build(self, channels_in, channels, stride):
        """The module for a unit that goes from `channels_in` to `channels` at `stride`."""
        cls, _, places = KINDS[self.kind]
        place = {"channels_in": channels_in, "channels": channels, "stride": stride}
        return cls(**{name: place[name] for name in places}, **dict(self.options))

    @property
    def resizes(self):
        """Whether x needs no resizing: the shortcut brings it to the residual's shape itself, or does not read it."""
        return self.kind == "1x1 conv" or ("a", 0) in self.options

    def __str__(self):
        constants = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}({constants})" if constants else self.kind


def shortcut(kind="identity", **options):
    """A checked `Shortcut`. Raises UsageError for an unknown kind and for options that it does not take."""
    _, defaults, _ = KINDS[choose(kind, KINDS, "shortcut")]
    for name in options:
        choose(name, defaults, f"option of the shortcut {kind!r}")
    complete = defaults | options
    missing = [name for name, value in complete.items() if value is None]
    if missing:
        raise UsageError(f"the shortcut {kind!r} needs {', '.join(missing)}; got none")
    for name, value in complete.items():
        switch = type(defaults[name]) is bool
        if type(value) is not bool if switch else not is_number(value):
            wanted = "true or false" if switch else "a number"
            raise UsageError(f"{name} of the shortcut {kind!r} must be {wanted}; got {value!r}")
    return Shortcut(kind, tuple(complete.items()))
