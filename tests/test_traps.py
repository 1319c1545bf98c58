"""Where other reproductions of the paper went wrong: one test a trap, which fails when the trap is sprung.

`python tests/spring_traps.py` springs each of them in a copy of the library and demands that its test fails.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import draws, rate_of, rate_used, small_run, toy
from torch import nn
from torch.nn import functional as F

from identity_mappings import cifar_resnet, shortcut
from identity_mappings.data import Dataset
from identity_mappings.data.batches import Batches, Images
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import CIFAR
from identity_mappings.iteration.sgd import SGD
from identity_mappings.nets.norm import BatchNorm2d
from identity_mappings.nets.shortcuts import Gate
from identity_mappings.results.statistics import Summary
from identity_mappings.results.verdicts import beside_the_paper
from identity_mappings.training import state as training_state
from identity_mappings.training import train

PRE = "full pre-activation"


def on_meta(depth, **choices):
    with torch.device("meta"):
        return cifar_resnet(depth, **choices)


def convs(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def kinds(modules):
    return [type(m) for m in modules]


def test_01_bottleneck_widths():
    """The stem has 16 channels and the stages 64, 128, 256 with 16, 32, 64 inside, not a first stage of 16."""
    network = on_meta(164, order=PRE)
    assert network.stem[0].out_channels == 16
    widths = [[c.out_channels for c in convs(unit.residual)] for unit in network.units]
    assert widths == [[w, w, 4 * w] for w in (16, 32, 64) for _ in range(18)]
    assert sum(p.numel() for p in network.parameters()) == 1_703_258


def test_02_depth_names():
    """ResNet-110 is made of two-layer units (6n+2), 164 and 1001 of bottlenecks (9n+2)."""
    layers = {depth: [len(convs(unit.residual)) for unit in on_meta(depth).units] for depth in (110, 164, 1001)}
    assert layers == {110: [2] * 54, 164: [3] * 54, 1001: [3] * 333}


def test_03_last_units_activation():
    """After the last addition of a pre-activation net come BN and ReLU, then the pooling."""
    network, seen = cifar_resnet(8, order=PRE, seed=0).double(), []
    network.units.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = network(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    activated = F.relu(F.batch_norm(seen[0], None, None, training=True))
    torch.testing.assert_close(logits, network.classifier(activated.mean((2, 3))), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth, branch", [(8, "basic"), (11, "bottleneck")])
def test_04_first_unit(depth, branch):
    """The first activation comes once, after the stem's conv and before the split, so that both paths read it."""
    network = cifar_resnet(depth, branch=branch, order=PRE, resize="projection", seed=0).double()
    assert kinds(network.stem) == [nn.Conv2d, BatchNorm2d, nn.ReLU]
    first, x = network.units[0], torch.rand(4, 16, 8, 8, dtype=torch.float64)
    signal = x
    for index, conv in enumerate(convs(first.residual)):
        if index:
            signal = F.relu(F.batch_norm(signal, None, None, training=True))
        signal = conv(signal)
    skipped = convs(first.resize)[0](x) if branch == "bottleneck" else x
    torch.testing.assert_close(first(x), skipped + signal, rtol=1e-10, atol=1e-10)


def test_05_projections():
    """A pre-activation opener's projection reads the activated signal and has no BN; a post-activation one has BN."""
    network = cifar_resnet(11, branch="bottleneck", order=PRE, seed=0).double()
    opener, x = network.units[1], torch.randn(4, 64, 8, 8, dtype=torch.float64)
    for conv in convs(opener.residual):
        nn.init.zeros_(conv.weight)
    activated = F.relu(F.batch_norm(x, None, None, training=True))
    (projection,) = convs(opener.resize)
    torch.testing.assert_close(opener(x), projection(activated), rtol=1e-10, atol=1e-10)
    assert kinds(cifar_resnet(11, branch="bottleneck").units[1].resize) == [nn.Conv2d, BatchNorm2d]


def test_06_zero_padded_identity():
    """A basic net's shortcut between stages takes every second pixel and appends zero channels: no parameters."""
    network = cifar_resnet(8, seed=0).double()
    opener, x = network.units[1], torch.rand(4, 16, 8, 8, dtype=torch.float64)
    for module in opener.residual:
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    y = opener(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert y.shape[1] == 32 and not y[:, 16:].any()
    assert sum(p.numel() for p in on_meta(110).parameters()) == 1_727_962


@pytest.mark.parametrize("order", ["original", PRE])
def test_07_stride_on_the_first_conv(order):
    """A stage's stride sits on the bottleneck's first 1x1 conv, as in the authors' code, not on its 3x3."""
    network = on_meta(164, order=order)
    strides = [[(c.kernel_size[0], c.stride[0]) for c in convs(network.units[i].residual)] for i in (17, 18, 36)]
    assert strides == [[(1, 1), (3, 1), (1, 1)], [(1, 2), (3, 1), (1, 1)], [(1, 2), (3, 1), (1, 1)]]


def test_08_warm_up_and_drops_in_iterations(begun):
    """The rate that SGD uses is 0.01 for 400 iterations, not an epoch, then 0.1, and falls at 32k and 48k of 64k."""
    state = begun()
    expected = {0: 0.01, 390: 0.01, 391: 0.01, 399: 0.01, 400: 0.1, 401: 0.1, 31_999: 0.1, 32_000: 0.01}
    expected |= {47_999: 0.01, 48_000: 0.001, 63_999: 0.001}
    assert {i: rate_used(state, i) for i in expected} == pytest.approx(expected, rel=1e-7)
    assert state.finished and state.protocol.batch == 128


@pytest.mark.parametrize("chosen", [shortcut(), shortcut("exclusive gate", bias=-6)])
def test_09_weight_decay(chosen):
    """A step without gradients takes exactly rate x 1e-4 of every parameter: scales, shifts and gate biases too."""
    network = cifar_resnet(8, shortcut=chosen, seed=0).double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 1, 2)
    before = [p.detach().clone() for p in network.parameters()]
    sgd = SGD(network, CIFAR)
    sgd.step([torch.zeros_like(parameter) for parameter in sgd.parameters], rate_of(CIFAR, 400))
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (1 - 0.1 * 1e-4), rtol=1e-12, atol=0)


def test_10_padding_with_the_mean():
    """The margin around a shifted image is zero after normalisation, which is the mean image and not black."""
    train, _ = Images.pair(toy(), CIFAR.normalisation, "cpu")
    batches = Batches(train, CIFAR, 0)
    batches.draws = lambda iteration: torch.tensor([[5], [0], [8], [0]])  # down by four pixels, left by four
    images, _ = batches.at(None)
    assert not images[:, :, :4].any() and not images[:, :, :, -4:].any()
    assert images[:, :, 4:, :-4].abs().mean() > 0.1


def test_11_the_last_iteration(tmp_path, monkeypatch):
    """The result is the test error at the last iteration, never the lowest of the curve."""
    errors = [40.0, 10.0, *[35.0] * 17, 30.0]
    given = iter(errors)
    monkeypatch.setattr(training_state.State, "test_error", lambda self, count=None: next(given))
    record = train(small_run(1, "original", iterations=50), results=tmp_path, threads=1)
    assert record["curve"]["test_error"] == errors
    assert record["curve"]["iteration"][::10] == [3, 28] and record["curve"]["iteration"][-1] == 50
    assert record["test_error"] == 30.0


def test_11_one_run_tells_nothing_apart():
    """Seeds move ResNet-110 by about 0.2 points: one run neither agrees with nor differs from a printed number."""
    for table, id, error in ((1, "original", 6.37), (2, "110-full-pre-activation", 6.61)):
        (row,) = paper.rows(table, [id])
        assert beside_the_paper(Summary(row, "paper", (error,), ())).word == "underpowered"


def test_12_dropout_has_an_expectation_of_one_half():
    """A kept value stays as it is, and evaluation halves: the shortcut's scale has the expectation of 0.5."""
    (row,) = paper.rows(1, ["dropout"])
    (spec,) = row.networks.values()
    module, ones = spec.shortcut.build(4, 4, 1), torch.ones(64, 4, 32, 32)
    drawn = module.train()(ones, torch.zeros_like(ones))
    assert drawn.unique().tolist() == [0.0, 1.0]
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.005)
    assert (module.eval()(ones, torch.zeros_like(ones)) == 0.5).all()


def test_13_bn_sees_64_images(begun):
    """A training batch of 128 is normalised in two halves, and the running statistics are the first half's."""
    state = begun()
    norm = state.network.stem[1]
    assert {m.group for m in state.network.modules() if isinstance(m, BatchNorm2d)} == {64}
    x = torch.randn(128, 2, 4, 4) * torch.linspace(1, 4, 128)[:, None, None, None] + torch.arange(2)[:, None, None]
    y = norm.train()(x)
    for half in (slice(0, 64), slice(64, 128)):
        torch.testing.assert_close(y[half].mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
        torch.testing.assert_close(y[half].var((0, 2, 3)), torch.ones(2), rtol=0, atol=1e-2)
    state.on_device.statistics.update()
    torch.testing.assert_close(norm.running_mean, 0.1 * x[:64].mean((0, 2, 3)))
    small_batches = [row.protocol for row in paper.rows() if row.protocol.batch == 64]
    assert {protocol.bn_group for protocol in small_batches} == {32}


def test_14_bn_on_shortcuts():
    """The 1x1 shortcut of Fig. 2(e) is a weight layer with BN after it; a gate's convolution has a bias and no BN."""
    torch.manual_seed(0)
    spec = {row.id: next(iter(row.networks.values())).shortcut for row in paper.rows(1)}
    x, zeros = torch.randn(8, 4, 8, 8), torch.zeros(8, 4, 8, 8)
    y = spec["conv-1x1"].build(4, 4, 1)(x, zeros)
    torch.testing.assert_close(y.var((0, 2, 3)), torch.ones(4), rtol=0.01, atol=0)
    for id in ("exclusive-gating-6", "shortcut-gating-6"):
        gate = spec[id].build(4, 4, 1).gate
        assert isinstance(gate, Gate) and kinds(gate.children()) == [nn.Conv2d]
        assert gate.bias is gate.conv.bias


def test_15_the_mean_image_is_subtracted():
    """Training images lose the mean image of the training set, pixel by pixel, and test images the same one."""
    data = toy()
    data = replace(data, x_train=np.maximum(data.x_train, np.arange(32, dtype=np.uint8)[:, None, None] * 6))
    train, test = Images.pair(data, CIFAR.normalisation, "cpu")
    images, _ = train.plain(0, len(train))
    torch.testing.assert_close(images.mean(0), torch.zeros(3, 32, 32), rtol=0, atol=1e-5)
    shown, _ = test.plain(0, len(test))
    expected = (data.x_test - data.x_train.mean(0)) / data.x_train.std((0, 1, 2))
    np.testing.assert_allclose(shown.permute(0, 2, 3, 1), expected, rtol=0, atol=1e-5)


def test_16_the_rate_stays_out_of_the_velocity():
    """The velocity is m v + g and the rate multiplies it at the step (PyTorch's form); "caffe" takes the rate in."""
    weights = {}
    for velocity in (CIFAR.velocity, "caffe"):
        layer = nn.Linear(1, 1, bias=False).double()
        nn.init.zeros_(layer.weight)
        sgd = SGD(layer, replace(CIFAR, velocity=velocity, weight_decay=0.0))
        for iteration, slope in ((399, 1.0), (400, 0.0)):  # pushed once, then it only rolls on at ten times the rate
            sgd.step([torch.full_like(layer.weight, slope)], rate_of(CIFAR, iteration))
        weights[velocity] = layer.weight.item()
    first = 0.01
    assert weights["pytorch"] == pytest.approx(-(first + 0.1 * 0.9), rel=1e-12)
    assert weights["caffe"] == pytest.approx(-(first + first * 0.9), rel=1e-12)


def test_17_all_training_images_for_64k_iterations():
    """64,000 batches of 128 from all 50,000 images: each image is drawn 163 or 164 times, in shuffled epochs."""
    count = 50_000
    pixels, labels = np.zeros((count, 1, 1, 3), np.uint8), np.arange(count)
    train, _ = Images.pair(Dataset("toy", pixels, labels, pixels[:1], labels[:1], 10), CIFAR.normalisation, "cpu")
    batches = Batches(train, CIFAR, 0)
    drawn = torch.cat([draws(batches, iteration)[0] for iteration in range(CIFAR.iterations)])
    times, images = torch.bincount(drawn, minlength=count).unique(return_counts=True)
    assert (times.tolist(), images.tolist()) == ([163, 164], [8_000, 42_000])  # 64,000 x 128 = 163.84 x 50,000
    epochs = drawn[: 163 * count].reshape(163, count)
    assert torch.equal(epochs.sort(1).values, torch.arange(count).expand(163, count))
