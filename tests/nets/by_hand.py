"""Residual Units written out one by one, with nothing in common with the library: what its one unit must equal.

Every class has the weight layers c1, c2, ... of its branch, the BNs b1, b2, ... beside them, and, where it changes
dimensions, a projection cs with or without a BN bs. Each `forward` is read off Fig. 4 and the appendix.
"""

from torch import nn
from torch.nn.functional import relu

C = 6  # channels where nothing changes
WIDTH, WIDE = 3, 12  # a bottleneck's 3x3 layer and its output
OPENED = 9  # channels after a basic stage opener


def conv(channels_in, channels, kernel, stride=1):
    return nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)


class OneLayer(nn.Module):
    """A branch of a single 3x3 layer."""

    def __init__(self):
        super().__init__()
        self.c1, self.b1 = conv(C, C, 3), nn.BatchNorm2d(C)


class OneLayerOriginal(OneLayer):
    def forward(self, x):
        return relu(x + self.b1(self.c1(x)))


class OneLayerBNAfterAddition(OneLayer):
    def forward(self, x):
        return relu(self.b1(x + self.c1(x)))


class OneLayerReLUBeforeAddition(OneLayer):
    def forward(self, x):
        return x + relu(self.b1(self.c1(x)))


class OneLayerReLUOnly(OneLayer):
    def forward(self, x):
        return x + self.b1(self.c1(relu(x)))


class OneLayerFull(OneLayer):
    def forward(self, x):
        return x + self.c1(relu(self.b1(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 at a constant width of 12."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = conv(WIDE, WIDTH, 1), conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDE, 1)
        self.b1, self.b2, self.b3 = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDE)


class BottleneckOriginal(Bottleneck):
    def forward(self, x):
        return relu(x + self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckBNAfterAddition(Bottleneck):
    def forward(self, x):
        return relu(self.b3(x + self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckReLUBeforeAddition(Bottleneck):
    def forward(self, x):
        return x + relu(self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckReLUOnly(Bottleneck):
    def forward(self, x):
        return x + self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(relu(x)))))))))


class BottleneckFull(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1, self.b2, self.b3 = nn.BatchNorm2d(WIDE), nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)
        self.c1, self.c2, self.c3 = conv(WIDE, WIDTH, 1), conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDE, 1)

    def forward(self, x):
        return x + self.c3(relu(self.b3(self.c2(relu(self.b2(self.c1(relu(self.b1(x)))))))))


class Opener(nn.Module):
    """A basic unit from 6 to 9 channels at stride 2, with a projection that BN follows."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.cs = conv(C, OPENED, 3, 2), conv(OPENED, OPENED, 3), conv(C, OPENED, 1, 2)
        self.b1, self.b2, self.bs = nn.BatchNorm2d(OPENED), nn.BatchNorm2d(OPENED), nn.BatchNorm2d(OPENED)


class OpenerOriginal(Opener):
    def forward(self, x):
        return relu(self.bs(self.cs(x)) + self.b2(self.c2(relu(self.b1(self.c1(x))))))


class OpenerBNAfterAddition(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.cs = conv(C, OPENED, 3, 2), conv(OPENED, OPENED, 3), conv(C, OPENED, 1, 2)
        self.b1, self.b2 = nn.BatchNorm2d(OPENED), nn.BatchNorm2d(OPENED)

    def forward(self, x):
        return relu(self.b2(self.cs(x) + self.c2(relu(self.b1(self.c1(x))))))


class OpenerReLUBeforeAddition(Opener):
    def forward(self, x):
        return self.bs(self.cs(x)) + relu(self.b2(self.c2(relu(self.b1(self.c1(x))))))


class OpenerReLUOnly(Opener):
    def forward(self, x):
        a = relu(x)
        return self.bs(self.cs(a)) + self.b2(self.c2(relu(self.b1(self.c1(a)))))


class OpenerFull(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1, self.b2 = nn.BatchNorm2d(C), nn.BatchNorm2d(OPENED)
        self.c1, self.c2, self.cs = conv(C, OPENED, 3, 2), conv(OPENED, OPENED, 3), conv(C, OPENED, 1, 2)

    def forward(self, x):
        a = relu(self.b1(x))
        return self.cs(a) + self.c2(relu(self.b2(self.c1(a))))


class BottleneckOpener(nn.Module):
    """From 6 to 12 channels; the stride of 2 sits on the first 1x1 layer."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = conv(C, WIDTH, 1, 2), conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDE, 1)
        self.cs = conv(C, WIDE, 1, 2)
        self.b1, self.b2, self.b3 = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDE)
        self.bs = nn.BatchNorm2d(WIDE)


class BottleneckOpenerOriginal(BottleneckOpener):
    def forward(self, x):
        return relu(self.bs(self.cs(x)) + self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckOpenerReLUBeforeAddition(BottleneckOpener):
    def forward(self, x):
        return self.bs(self.cs(x)) + relu(self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckOpenerReLUOnly(BottleneckOpener):
    def forward(self, x):
        a = relu(x)
        return self.bs(self.cs(a)) + self.b3(self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(a))))))))


class BottleneckOpenerBNAfterAddition(BottleneckOpener):
    def __init__(self):
        super().__init__()
        del self.bs

    def forward(self, x):
        return relu(self.b3(self.cs(x) + self.c3(relu(self.b2(self.c2(relu(self.b1(self.c1(x)))))))))


class BottleneckOpenerFull(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1, self.b2, self.b3 = nn.BatchNorm2d(C), nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)
        self.c1, self.c2, self.c3 = conv(C, WIDTH, 1, 2), conv(WIDTH, WIDTH, 3), conv(WIDTH, WIDE, 1)
        self.cs = conv(C, WIDE, 1, 2)

    def forward(self, x):
        a = relu(self.b1(x))
        return self.cs(a) + self.c3(relu(self.b3(self.c2(relu(self.b2(self.c1(a)))))))


class First(nn.Module):
    """The network's first basic unit: its input has been activated by the stem, so its branch begins with a conv."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.b1, self.b2 = conv(C, C, 3), conv(C, C, 3), nn.BatchNorm2d(C), nn.BatchNorm2d(C)


class FirstOriginal(First):
    def forward(self, x):
        return relu(x + self.b2(self.c2(relu(self.b1(self.c1(x))))))


class FirstBNAfterAddition(First):
    def forward(self, x):
        return relu(self.b2(x + self.c2(relu(self.b1(self.c1(x))))))


class FirstReLUBeforeAddition(First):
    def forward(self, x):
        return x + relu(self.b2(self.c2(relu(self.b1(self.c1(x))))))


class FirstReLUOnly(First):
    def forward(self, x):
        return x + self.b2(self.c2(relu(self.b1(self.c1(x)))))


class FirstFull(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.b1 = conv(C, C, 3), conv(C, C, 3), nn.BatchNorm2d(C)

    def forward(self, x):
        return x + self.c2(relu(self.b1(self.c1(x))))


# Each tuple in the order of Fig. 4: (a) to (e).
ONE_LAYER = (OneLayerOriginal, OneLayerBNAfterAddition, OneLayerReLUBeforeAddition, OneLayerReLUOnly, OneLayerFull)
BOTTLENECK = (
    BottleneckOriginal,
    BottleneckBNAfterAddition,
    BottleneckReLUBeforeAddition,
    BottleneckReLUOnly,
    BottleneckFull,
)
OPENER = (OpenerOriginal, OpenerBNAfterAddition, OpenerReLUBeforeAddition, OpenerReLUOnly, OpenerFull)
BOTTLENECK_OPENER = (
    BottleneckOpenerOriginal,
    BottleneckOpenerBNAfterAddition,
    BottleneckOpenerReLUBeforeAddition,
    BottleneckOpenerReLUOnly,
    BottleneckOpenerFull,
)
FIRST = (FirstOriginal, FirstBNAfterAddition, FirstReLUBeforeAddition, FirstReLUOnly, FirstFull)
