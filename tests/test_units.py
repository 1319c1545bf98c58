"""The Residual Unit against the five units of Fig. 4 written by hand, and the parts that it is made of."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from identity_mappings import ORDERS, ResidualUnit, cifar_resnet, shortcut
from identity_mappings.norm import BatchNorm2d, set_group
from identity_mappings.orders import order
from identity_mappings.units import Conv, ZeroPad

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


BY_HAND = (OriginalUnit, BNAfterAdditionUnit, ReLUBeforeAdditionUnit, ReLUOnlyPreActUnit, FullPreActUnit)


def unit(name, channels_in=C, channels=C, stride=1, **choices):
    convs = [Conv(3, channels, stride), Conv(3, channels)]
    return ResidualUnit(channels_in, convs, order(name), shortcut(), **choices).double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name, by_hand", list(zip(ORDERS, BY_HAND, strict=True)))
def test_unit_is_the_one_written_by_hand(name, by_hand, training):
    torch.manual_seed(0)
    expected, got = by_hand().double().train(training), unit(name).train(training)
    for tensor in expected.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    got.load_state_dict(dict(zip(got.state_dict(), expected.state_dict().values(), strict=True)))
    inputs = [torch.randn(3, C, 5, 5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    direction = torch.randn_like(inputs[0])
    for module, x in zip((expected, got), inputs, strict=True):
        module.output = module(x)
        (module.output * direction).sum().backward()
    pairs = [(expected.output, got.output), (inputs[0].grad, inputs[1].grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(expected.parameters(), got.parameters(), strict=True)]
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_stage_opener_activates_both_paths():
    opener = unit("full pre-activation", channels=9, stride=2, resize="projection").eval()
    x = torch.randn(2, C, 8, 8, dtype=torch.float64)
    bn, _ = opener.before
    bn.running_mean.uniform_(-1, 1)
    (projection,) = opener.resize  # a conv, no BN after it
    activated = F.relu(bn(x))
    conv1, bn2, _, conv2 = opener.residual
    expected = F.conv2d(activated, projection.weight, stride=2) + conv2(F.relu(bn2(conv1(activated))))
    torch.testing.assert_close(opener(x), expected, rtol=1e-10, atol=1e-10)


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
