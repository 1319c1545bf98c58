"""Whole networks against implementations that share nothing with the library: torchvision's, and functions of tensors.

With the weights copied over, logits, the images' gradient and every parameter's gradient agree in double precision.
Parameter counts are those of closed formulas, and of the constants that others print.
"""

import pytest
import torch
import torchvision
from torch.nn import functional as F

from identity_mappings import ResidualUnit, cifar_resnet, imagenet_resnet, shortcut
from identity_mappings.nets.networks import IMAGENET_UNITS
from identity_mappings.nets.orders import order
from identity_mappings.nets.units import Conv


def compare(got, expected, images, trainable):
    """(logits, image gradient, *parameter gradients) of two functions of the images, each relative to its size."""
    results = []
    for forward, parameters in ((got, trainable[0]), (expected, trainable[1])):
        x = images.clone().requires_grad_()
        logits = forward(x)
        direction = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).reshape(logits.shape)
        results.append((logits, *torch.autograd.grad((logits * direction).sum(), [x, *parameters])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * b.abs().max().item())


def shaken(network):
    """The network in double precision with BN scales, shifts and running statistics that all differ."""
    generator = torch.Generator().manual_seed(5)
    network.double()
    for tensor in network.state_dict().values():
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.8, 1.2, generator=generator)
    return network


@pytest.mark.parametrize("depth, training", [(50, True), (50, False), (101, True), (152, True), (152, False)])
def test_the_original_order_is_torchvisions_resnet(depth, training):
    theirs = shaken(getattr(torchvision.models, f"resnet{depth}")(num_classes=10)).train(training)
    ours = imagenet_resnet(depth, stride_on="3x3", classes=10).double().train(training)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    compare(ours, theirs, images, [list(net.parameters()) for net in (ours, theirs)])


class Weights:
    """A network's tensors in the order in which a forward pass meets them, taken one by one."""

    def __init__(self, network, training):
        copied = {name: value.clone() for name, value in network.state_dict().items()}
        self.parameters = [copied[name].requires_grad_() for name, _ in network.named_parameters()]
        self.tensors = [value for name, value in copied.items() if not name.endswith("num_batches_tracked")]
        self.training = training
        self.rewind()

    def rewind(self):
        self.left = iter(self.tensors)

    def conv(self, x, stride=1):
        weight = next(self.left)
        return F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2)

    def bn(self, x):
        scale, shift, mean, variance = (next(self.left) for _ in range(4))
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        mean, variance, scale, shift = (v[:, None, None] for v in (mean, variance, scale, shift))
        return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    def linear(self, x):
        return x @ next(self.left).T + next(self.left)


def authors_preactivation(w, x, n):
    """The net of the authors' released Torch code (KaimingHe/resnet-1k-layers) at depth 9n+2.

    Its facts: a bare 3x3 conv; 16 channels, then 64, 128, 256; a unit that widens has one BN-ReLU that both its paths
    read and a bare 1x1 projection, each other unit BN-ReLU before each of its three convs; the stride is the first
    1x1 conv's and the projection's; BN-ReLU, pooling and a linear layer at the end.
    """
    x, channels = w.conv(x), 16
    for stage, wide in enumerate((64, 128, 256)):
        for position in range(n):
            stride = 2 if stage and not position else 1
            a = F.relu(w.bn(x))
            f = w.conv(a, stride)
            assert f.shape[1] == wide // 4
            f = w.conv(F.relu(w.bn(f)))
            f = w.conv(F.relu(w.bn(f)))
            x = f + (w.conv(a, stride) if channels != wide else x)
            channels = wide
    return w.linear(F.relu(w.bn(x)).mean((2, 3)))


def first_paper_cifar(w, x, n):
    """The first ResNet paper's CIFAR net at depth 6n+2: two 3x3 layers a unit, option A where the map shrinks."""
    x = F.relu(w.bn(w.conv(x)))
    for channels in (16, 32, 64):
        for _ in range(n):
            stride = 1 if x.shape[1] == channels else 2
            f = w.bn(w.conv(F.relu(w.bn(w.conv(x, stride)))))
            same = x[:, :, ::stride, ::stride]
            empty = torch.zeros(len(same), channels - same.shape[1], *same.shape[2:], dtype=x.dtype)
            x = F.relu(torch.cat([same, empty], 1) + f)
    return w.linear(x.mean((2, 3)))


def one_layer_preactivation(w, x, n):
    """ResNet-(3n+2)(1layer) with full pre-activation: BN, ReLU, one 3x3 layer; the first unit's BN-ReLU is shared."""
    x = F.relu(w.bn(w.conv(x)))
    for channels in (16, 32, 64):
        for position in range(n):
            shrinks, starts = x.shape[1] != channels, channels == 16 and position == 0
            a = x if starts else F.relu(w.bn(x))
            f = w.conv(a, 2 if shrinks else 1)
            if shrinks:
                x = F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, 0, channels // 2))
            x = x + f
    return w.linear(F.relu(w.bn(x)).mean((2, 3)))


FULL = {"order": "full pre-activation"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "function, depth, n, choices",
    [
        (authors_preactivation, 164, 18, FULL),
        (authors_preactivation, 20, 2, FULL | {"branch": "bottleneck"}),
        (first_paper_cifar, 110, 18, {}),
        (first_paper_cifar, 20, 3, {}),
        (one_layer_preactivation, 110, 36, FULL | {"branch": "one-layer"}),
        (one_layer_preactivation, 14, 4, FULL | {"branch": "one-layer"}),
    ],
)
def test_cifar_networks_are_functions_of_their_weights(function, depth, n, choices, training):
    ours = shaken(cifar_resnet(depth, seed=0, **choices)).train(training)
    weights = Weights(ours, training)

    def by_hand(x):
        weights.rewind()
        logits = function(weights, x, n)
        assert next(weights.left, None) is None  # every tensor of ours was used, in this order
        return logits

    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    compare(ours, by_hand, images, [list(ours.parameters()), weights.parameters])


def parameters(build, *args, **choices):
    with torch.device("meta"):
        return sum(p.numel() for p in build(*args, **choices).parameters())


def of_two_layer_net(n, projections=False):
    """6n+2 layers of widths 16, 32, 64: 3x3 convs, a scale and a shift a channel, the classifier."""
    convs = 3 * 9 * 16 + 9 * (2 * n * 16**2 + (2 * n - 1) * (32**2 + 64**2) + 16 * 32 + 32 * 64)
    bn = 2 * (16 + 2 * n * (16 + 32 + 64))
    return convs + bn + 650 + (16 * 32 + 32 * 64 if projections else 0)


def of_one_layer_net(n):
    """3n+2 layers: n convs a stage in place of 2n."""
    convs = 3 * 9 * 16 + 9 * (n * 16**2 + (n - 1) * (32**2 + 64**2) + 16 * 32 + 32 * 64)
    return convs + 2 * (16 + n * (16 + 32 + 64)) + 650


def of_bottleneck_net(widths, counts, stem, classes, projection_bn):
    """A unit of inner width w has w (in + 9 w + 4 w) weights and 2 (w + w + 4 w) scales and shifts."""
    total = stem * widths[0] + 2 * widths[0] + 4 * widths[-1] * classes + classes
    for stage, (w, count) in enumerate(zip(widths, counts, strict=True)):
        before = 4 * widths[stage - 1] if stage else widths[0]
        total += count * (w * (4 * w + 9 * w + 4 * w) + 12 * w) + w * (before - 4 * w)
        total += before * 4 * w + (8 * w if projection_bn else 0)
    return total


def imagenet(depth, projection_bn):
    counts = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}[depth]
    return of_bottleneck_net((64, 128, 256, 512), counts, 3 * 49, 1000, projection_bn)


def cifar_bottleneck(n, projection_bn):
    return of_bottleneck_net((16, 32, 64), (n, n, n), 3 * 9, 10, projection_bn)


@pytest.mark.parametrize("name", ["original", "full pre-activation"])
@pytest.mark.parametrize(
    "depth, choices, formula",
    [
        (110, {}, of_two_layer_net(18)),
        (110, {"resize": "projection", "projection_bn": False}, of_two_layer_net(18, projections=True)),
        (110, {"branch": "one-layer"}, of_one_layer_net(36)),
        (1202, {}, of_two_layer_net(200)),
    ],
)
def test_parameters_of_nets_of_3x3_layers(depth, choices, formula, name):
    assert parameters(cifar_resnet, depth, order=name, **choices) == formula


@pytest.mark.parametrize("name, projection_bn", [("original", True), ("full pre-activation", False)])
@pytest.mark.parametrize("depth, n", [(164, 18), (1001, 111)])
def test_parameters_of_cifar_bottlenecks(depth, n, name, projection_bn):
    assert parameters(cifar_resnet, depth, order=name) == cifar_bottleneck(n, projection_bn)


@pytest.mark.parametrize("name, projection_bn", [("original", True), ("full pre-activation", False)])
@pytest.mark.parametrize("depth", IMAGENET_UNITS)
def test_parameters_of_imagenet_networks(depth, name, projection_bn):
    assert parameters(imagenet_resnet, depth, order=name) == imagenet(depth, projection_bn)


def test_parameters_of_resnet_101_with_bn_after_addition():
    """Its projections are bare, as BN comes after the addition: 2 (256 + 512 + 1024 + 2048) fewer than the original."""
    count = parameters(imagenet_resnet, 101, order="BN after addition")
    assert count == imagenet(101, projection_bn=False) == 44_549_160 - 7_680


def test_the_formulas_give_the_constants_that_others_print():
    assert (of_two_layer_net(18), of_two_layer_net(18, projections=True)) == (1_727_962, 1_730_522)
    assert cifar_bottleneck(18, projection_bn=False) == 1_703_258
    assert (cifar_bottleneck(18, projection_bn=True), of_two_layer_net(200)) == (1_704_154, 19_421_274)
    assert [imagenet(depth, True) for depth in (50, 101, 152)] == [25_557_032, 44_549_160, 60_192_808]
    # torchvision's ResNet-152 less the BN of four projections, and 16 units more on 28x28 (section 5's footnote)
    unit = 128 * (512 + 9 * 128 + 512) + 2 * (128 + 128 + 512)
    assert imagenet(200, False) == 60_192_808 - 2 * (256 + 512 + 1024 + 2048) + 16 * unit == 64_666_152
    in_millions = [f"{count / 1e6:.1f}" for count in (of_two_layer_net(200), cifar_bottleneck(18, False))]
    assert in_millions == ["19.4", "1.7"]  # Table 4
    assert cifar_bottleneck(111, projection_bn=False) == pytest.approx(10.2e6, rel=0.02)  # Table 4: 10.2M


@pytest.mark.parametrize("crop, features", [(224, 7), (320, 10)])
@pytest.mark.parametrize("name", ["original", "full pre-activation"])
def test_fully_convolutional(name, crop, features):
    """Section 5: trained on 224x224 crops, tested on 320x320."""
    with torch.device("meta"):
        whole = imagenet_resnet(50, order=name).eval()
        seen = whole.units(whole.stem(torch.empty(1, 3, crop, crop)))
        assert seen.shape == (1, 2048, features, features)
        assert whole(torch.empty(1, 3, crop, crop)).shape == (1, 1000)
    narrow = imagenet_resnet(50, order=name, widths=(4, 6, 8, 10), classes=7, seed=0).eval()
    images = torch.randn(1, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = narrow.tail(narrow.units(narrow.stem(images)))
        pooled = maps.reshape(1, 40, features**2).sum(2) / features**2
        torch.testing.assert_close(narrow(images), pooled @ narrow.classifier.weight.T)


def stack(name, chosen, count=4):
    """Residual Units of one stage in double precision, evaluation mode, with weights that are not small."""
    torch.manual_seed(0)
    units = [ResidualUnit(5, [Conv(3, 5), Conv(3, 5)], order(name), chosen[i % len(chosen)]) for i in range(count)]
    return [shaken(unit).eval() for unit in units]


def through(units):
    """(x_l, x_L, the residuals F(x_i), dE/dx_l, dE/dx_L) for a loss E that is not linear in x_L."""
    x = torch.randn(2, 5, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    signal, residuals = x, []
    for unit in units:
        residuals.append(unit.residual(signal))
        signal = unit.after(unit.shortcut(signal, residuals[-1]))
    loss = (signal.sin() * torch.linspace(0, 1, signal.numel(), dtype=torch.float64).reshape(signal.shape)).sum()
    by_x, by_last = torch.autograd.grad(loss, (x, signal), retain_graph=True)
    return x, signal, residuals, by_x, by_last


def test_equations_4_and_5():
    x, last, residuals, by_x, by_last = through(stack("full pre-activation", [shortcut()]))
    torch.testing.assert_close(last, x + sum(residuals), rtol=1e-12, atol=1e-12)  # Eq. 4
    (through_weights,) = torch.autograd.grad(sum(residuals), x, by_last)
    torch.testing.assert_close(by_last + through_weights, by_x, rtol=1e-10, atol=1e-10)  # Eq. 5
    assert through_weights.abs().max() > 0.1 * by_last.abs().max()  # neither term is idle


@pytest.mark.parametrize("name", ["original", "BN after addition"])
def test_equation_4_does_not_hold_where_f_is_not_the_identity(name):
    x, last, residuals, _, _ = through(stack(name, [shortcut()]))
    assert not torch.allclose(last, x + sum(residuals), rtol=1e-3, atol=1e-3)


def test_equations_7_and_8():
    scales = (0.5, 0.9, 1.5, 0.7)
    units = stack("full pre-activation", [shortcut("scaled", a=a, b=1) for a in scales])
    x, last, residuals, by_x, by_last = through(units)
    product = 0.5 * 0.9 * 1.5 * 0.7
    factors = (0.9 * 1.5 * 0.7, 1.5 * 0.7, 0.7, 1.0)  # of F(x_i): the scales of the units after it
    absorbed = sum(factor * f for factor, f in zip(factors, residuals, strict=True))
    torch.testing.assert_close(last, product * x + absorbed, rtol=1e-12, atol=1e-12)  # Eq. 7
    (through_weights,) = torch.autograd.grad(absorbed, x, by_last)
    torch.testing.assert_close(product * by_last + through_weights, by_x, rtol=1e-10, atol=1e-10)  # Eq. 8


@pytest.mark.parametrize("scale", [0.5, 1, 1.5])
def test_the_factor_of_equation_8_alone(scale):
    """With residuals that do not depend on x, the gradient is the product of 20 scales, and nothing else."""
    units = stack("full pre-activation", [shortcut("scaled", a=scale, b=1)], count=20)
    for unit in units:
        torch.nn.init.zeros_(unit.residual[-1].weight)
    _, _, _, by_x, by_last = through(units)
    torch.testing.assert_close(by_x, scale**20 * by_last, rtol=1e-12, atol=0)
