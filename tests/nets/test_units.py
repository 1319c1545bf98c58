"""The Residual Unit against the five units of Fig. 4 written by hand, and the parts that it is made of."""

import by_hand
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from identity_mappings import ORDERS, ResidualUnit, cifar_resnet, shortcut
from identity_mappings.nets.norm import BatchNorm2d, set_group
from identity_mappings.nets.orders import order
from identity_mappings.nets.units import Conv, ZeroPad

C = 6


def conv():
    return nn.Conv2d(C, C, 3, padding=1, bias=False)


class OriginalUnit(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = conv(), nn.BatchNorm2d(C), conv(), nn.BatchNorm2d(C)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class BNAfterAdditionUnit(OriginalUnit):
    def forward(self, x):
        return F.relu(self.bn2(x + self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ReLUBeforeAdditionUnit(OriginalUnit):
    def forward(self, x):
        return x + F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ReLUOnlyPreActUnit(OriginalUnit):
    def forward(self, x):
        return x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(F.relu(x))))))


class FullPreActUnit(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn1, self.conv1, self.bn2, self.conv2 = nn.BatchNorm2d(C), conv(), nn.BatchNorm2d(C), conv()

    def forward(self, x):
        return x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


BASIC = (OriginalUnit, BNAfterAdditionUnit, ReLUBeforeAdditionUnit, ReLUOnlyPreActUnit, FullPreActUnit)


def unit(name, channels_in=C, channels=C, stride=1, **choices):
    convs = [Conv(3, channels, stride), Conv(3, channels)]
    return ResidualUnit(channels_in, convs, order(name), shortcut(), **choices).double()


def agree(expected, got, channels=C):
    """Both modules, given the same weights, have the same output, input gradient and parameter gradients (float64)."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    layers = [[[m for m in module.modules() if isinstance(m, kind)] for kind in kinds] for module in (expected, got)]
    pairs_of_layers = [pair for ours, theirs in zip(*layers, strict=True) for pair in zip(ours, theirs, strict=True)]
    for source, target in pairs_of_layers:
        if isinstance(source, nn.BatchNorm2d):
            for tensor in (source.weight, source.bias, source.running_mean, source.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
        target.load_state_dict(source.state_dict())
    x = torch.randn(3, channels, 8, 8, dtype=torch.float64)
    results = []
    for module in (expected, got):
        own = x.clone().requires_grad_()
        torch.manual_seed(1)  # both draw the same dropout
        output = module(own)
        direction = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
        (output * direction).sum().backward()
        results.append((output, own.grad))
    pairs = list(zip(*results, strict=True))
    for source, target in pairs_of_layers:
        pairs += zip([p.grad for p in source.parameters()], [p.grad for p in target.parameters()], strict=True)
    for a, b in pairs:
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10 * a.abs().max().item())


def basic(channels=C, stride=1):
    return [Conv(3, channels, stride), Conv(3, channels)]


def bottleneck(stride=1):
    return [Conv(1, by_hand.WIDTH, stride), Conv(3, by_hand.WIDTH), Conv(1, by_hand.WIDE)]


# what is built: the units by hand in Fig. 4's order, the input's channels, the branch's convs, further choices
PLACES = {
    "basic": (BASIC, C, basic(), {}),
    "one-layer": (by_hand.ONE_LAYER, C, [Conv(3, C)], {}),
    "bottleneck": (by_hand.BOTTLENECK, by_hand.WIDE, bottleneck(), {}),
    "opener": (by_hand.OPENER, C, basic(by_hand.OPENED, 2), {"resize": "projection"}),
    "bottleneck opener": (by_hand.BOTTLENECK_OPENER, C, bottleneck(2), {"resize": "projection"}),
    "first": (by_hand.FIRST, C, basic(), {"first": True}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(ORDERS)[:5])
@pytest.mark.parametrize("place", PLACES)
def test_unit_is_the_one_written_by_hand(place, name, training):
    torch.manual_seed(0)
    classes, channels, convs, choices = PLACES[place]
    expected = classes[list(ORDERS).index(name)]().double().train(training)
    got = ResidualUnit(channels, convs, order(name), shortcut(), **choices).double().train(training)
    assert sum(p.numel() for p in got.parameters()) == sum(p.numel() for p in expected.parameters())
    agree(expected, got, channels)


class PadOpener(nn.Module):
    """The original unit from 6 to 9 channels at stride 2 with a zero-padded shortcut that meets F as Fig. 2 has it."""

    def __init__(self, meet):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(C, 9, 3, 2, 1, bias=False), nn.BatchNorm2d(9)
        self.c2, self.b2 = nn.Conv2d(9, 9, 3, 1, 1, bias=False), nn.BatchNorm2d(9)
        self.meet = meet

    def forward(self, x):
        padded = torch.zeros(len(x), 9, 4, 4, dtype=x.dtype)
        padded[:, :C] = x[:, :, 0::2, 0::2]
        f = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(self.meet(x if isinstance(self.meet, ProjectedByHand) else padded, f))


class GatedByHand(nn.Module):
    def __init__(self, exclusive):
        super().__init__()
        self.gate, self.exclusive = nn.Conv2d(9, 9, 1), exclusive

    def forward(self, x, f):
        g = torch.sigmoid(self.gate(x))
        return (1 - g) * x + (g * f if self.exclusive else f)


class ProjectedByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.cs, self.bs = nn.Conv2d(C, 9, 1, 2, bias=False), nn.BatchNorm2d(9)

    def forward(self, x, f):
        return self.bs(self.cs(x)) + f


class SumByHand(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x, f):
        return self.a * x + self.b * f


class DropoutByHand(nn.Module):
    """Half of the shortcut's values at random, the others as they are; half of each in evaluation."""

    def forward(self, x, f):
        return 0.5 * nn.functional.dropout(x, 0.5, self.training) + f  # the factor undoes torch's rescaling by 2


PANELS = {
    "a": (shortcut(), lambda: SumByHand(1, 1)),
    "b": (shortcut("scaled", a=0.5, b=0.5), lambda: SumByHand(0.5, 0.5)),
    "b, F unscaled": (shortcut("scaled", a=0.5, b=1), lambda: SumByHand(0.5, 1)),
    "b, plain": (shortcut("scaled", a=0, b=1), lambda: SumByHand(0, 1)),
    "c": (shortcut("exclusive gate", bias=-6), lambda: GatedByHand(True)),
    "d": (shortcut("shortcut-only gate", bias=-6), lambda: GatedByHand(False)),
    "e": (shortcut("1x1 conv"), ProjectedByHand),
    "f": (shortcut("dropout", p=0.5), DropoutByHand),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("panel", PANELS)
def test_a_padded_opener_with_each_shortcut_of_figure_2(panel, training):
    torch.manual_seed(0)
    chosen, meet = PANELS[panel]
    expected = PadOpener(meet()).double().train(training)
    got = ResidualUnit(C, basic(9, 2), order("original"), chosen, "pad").double().train(training)
    agree(expected, got)


def test_projection_is_followed_by_bn_in_the_original_unit_unless_told_otherwise():
    def kinds(**choices):
        return [type(m) for m in unit("original", channels=9, stride=2, resize="projection", **choices).resize]

    assert kinds() == [nn.Conv2d, BatchNorm2d]
    assert kinds(projection_bn=False) == [nn.Conv2d]


@pytest.mark.parametrize("name", ["full pre-activation", "ReLU-only pre-activation"])
def test_the_first_unit_leaves_the_activation_to_the_stem(name):
    first = unit(name, first=True)
    assert len(first.before) == 0
    assert isinstance(first.residual[0], nn.Conv2d)
    network = cifar_resnet(8, order=name)
    assert [type(m) for m in network.stem] == [nn.Conv2d, BatchNorm2d, nn.ReLU]
    assert isinstance(network.tail[-1], nn.ReLU)


@pytest.mark.parametrize("channels, stride", [(C, 2), (4, 1), (4, 2), (9, 1)])
def test_a_change_of_size_or_of_width_alone_is_projected(channels, stride):
    """Half the map at the same width, or another width on the same map: both paths read relu(bn(x)) and then add up."""
    opener = unit("full pre-activation", channels=channels, stride=stride, resize="projection")
    x = torch.randn(3, C, 8, 8, dtype=torch.float64)
    (projection,) = opener.resize
    nn.init.zeros_(opener.residual[-1].weight)
    activated = F.relu(F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(opener(x), F.conv2d(activated, projection.weight, stride=stride))


def test_half_the_map_at_the_same_width_is_subsampled():
    opener = unit("original", stride=2)
    x = torch.rand(3, C, 8, 8, dtype=torch.float64)
    nn.init.zeros_(opener.residual[-1].weight)
    torch.testing.assert_close(opener(x), x[:, :, ::2, ::2])


def test_zero_pad_subsamples_and_appends_empty_channels():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6) + 1
    y = ZeroPad(3, 5, 2)(x)
    assert y.shape == (2, 5, 2, 3)
    assert (y[:, 3:] == 0).all()
    assert all(y[n, c, i, j] == x[n, c, 2 * i, 2 * j] for n in (0, 1) for c in range(3) for i in (0, 1) for j in (0, 2))


def grouped(group):
    module = BatchNorm2d(3)
    nn.init.uniform_(module.weight)
    nn.init.uniform_(module.bias)
    set_group(module, group)
    reference = nn.BatchNorm2d(3)
    reference.load_state_dict(module.state_dict())
    return module, reference


def test_bn_of_two_replicas():
    module, first = grouped(64)
    second = nn.BatchNorm2d(3)
    second.load_state_dict(first.state_dict())
    x = torch.randn(128, 3, 4, 4) * torch.linspace(1, 5, 128)[:, None, None, None]
    torch.testing.assert_close(module(x), torch.cat([first(x[:64]), second(x[64:])]))
    for name, buffer in first.named_buffers():
        assert torch.equal(module.state_dict()[name], buffer)
    assert not torch.allclose(module.running_var, second.running_var)
    torch.testing.assert_close(module.eval()(x), first.eval()(x))


@pytest.mark.parametrize("group", [None, 128])
def test_bn_over_the_whole_batch(group):
    module, reference = grouped(group)
    x = torch.randn(128, 3, 4, 4)
    torch.testing.assert_close(module(x), reference(x))
