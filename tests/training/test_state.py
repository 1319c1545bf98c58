"""One run's state under a microscope: the rates, batches, weights and statistics that training really uses."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import at, batch, draws, rate_of, rate_used, toy
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from identity_mappings import NetworkSpec, imagenet_resnet, initialise, shortcut
from identity_mappings.data import Dataset
from identity_mappings.data.batches import Batches, Images
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import CIFAR, IMAGENET, IMAGENET_ASPECT, RELEASED
from identity_mappings.iteration.sgd import SGD
from identity_mappings.nets.networks import cifar_spec, imagenet_spec
from identity_mappings.nets.norm import BatchNorm2d
from identity_mappings.training import state as training_state

RATES = {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}


@pytest.mark.parametrize("changes", [{}, {"decay_bn": False}])
def test_the_rate_that_sgd_used(begun, changes):
    """As the optimiser was given it, whether all parameters decay or some do not."""
    state = begun(**changes)
    for iteration, rate in RATES.items():
        assert rate_used(state, iteration) == pytest.approx(rate, rel=1e-7)
        assert state.iteration == iteration + 1
    assert state.finished


def test_a_step_moves_the_weights_by_the_rate_of_its_iteration(begun):
    """From rest, the first step is rate x gradient, and the rate is that of the iteration just taken."""
    moved = {}
    for iteration in (399, 400):
        state = begun(weight_decay=0.0)
        before = state.network.classifier.bias.detach().clone()
        at(state, iteration)
        images, labels = batch(state.batches, iteration)
        loss = F.cross_entropy(state.network.train()(images), labels)
        (slope,) = torch.autograd.grad(loss, state.network.classifier.bias)
        state.step()
        moved[iteration] = ((before - state.network.classifier.bias.detach()) / slope).mean().item()
    assert moved == pytest.approx({399: 0.01, 400: 0.1}, rel=1e-3)


def of_50_000(**changes):
    count = 50_000
    pixels, labels = np.zeros((count, 1, 1, 3), np.uint8), np.arange(count)
    train, _ = Images.pair(Dataset("toy", pixels, labels, pixels[:1], labels[:1], 10), "pixel", "cpu")
    return Batches(train, replace(CIFAR, **changes), seed=0)


def test_an_epochs_batches_are_a_permutation():
    """391 batches of 128 hold the 50,000 images once and 48 of the next epoch's; another epoch has another order."""
    batches = of_50_000()
    drawn = torch.cat([draws(batches, i)[0] for i in range(391)])
    assert torch.equal(drawn[:50_000].sort().values, torch.arange(50_000))
    assert torch.equal(drawn[50_000:], batches.tables(1)[0, :48])
    assert not torch.equal(batches.tables(0)[0], batches.tables(1)[0])
    still = (batches.tables(0)[0] == torch.arange(50_000)).sum().item()
    assert still < 10  # fixed points of a random permutation: one on average


def chi_square(counts):
    """The statistic of counts that are all expected to be equal."""
    expected = counts.double().mean()
    return ((counts - expected) ** 2 / expected).sum().item()


def test_crops_and_flips_are_uniform_and_independent():
    """81 crops x 2 flips of 100,000 draws: the statistic of 161 degrees of freedom stays below its 99.9 % quantile."""
    batches = of_50_000()
    _, down, right, flip = torch.cat([batches.tables(0), batches.tables(1)], dim=1)
    assert (down.min(), down.max(), right.min(), right.max()) == (0, 8, 0, 8)
    assert chi_square(torch.bincount((down * 9 + right) * 2 + flip, minlength=162)) < 221
    for part, categories, quantile in ((down, 9, 26.1), (right, 9, 26.1), (flip, 2, 10.8)):
        assert chi_square(torch.bincount(part, minlength=categories)) < quantile


def test_an_images_draws_differ_from_epoch_to_epoch():
    """Over 18 epochs one image's flips are not one value, nor are its crops."""
    batches = of_50_000()
    tables = [batches.tables(epoch) for epoch in range(18)]
    own = torch.stack([table[1:, (table[0] == 7).nonzero().item()] for table in tables])
    assert all(len(column.unique()) > 1 for column in own.T)


@pytest.mark.parametrize("pad_value", ["mean", "black"])
def test_values_of_the_margin(pad_value):
    """Zero for the mean image; for black, what a black pixel at the nearest place becomes once normalised."""
    data = toy()
    train, _ = Images.pair(data, "channel", "cpu")
    batches = Batches(train, replace(CIFAR, pad_value=pad_value), 0)
    batches.draws = lambda _: torch.tensor([[3], [0], [0], [0]])
    images, _ = batches.at(None)
    black = -data.x_train.mean((0, 1, 2)) / data.x_train.std((0, 1, 2))
    for channel in range(3):
        margin = images[0, channel, :4]
        expected = 0.0 if pad_value == "mean" else black[channel]
        np.testing.assert_allclose(margin, np.full((4, 32), expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes, spared",
    [
        ({}, set()),
        ({"decay_gate_bias": False}, {"gate"}),
        ({"decay_bn": False}, {"bn"}),
        ({"decay_bn": False, "decay_gate_bias": False}, {"bn", "gate"}),
    ],
)
def test_a_step_without_gradients_decays_exactly_the_intended(changes, spared):
    network = NetworkSpec(8, shortcut=shortcut("exclusive gate", bias=-6), widths=(2, 3, 4)).build().double()
    norms = {id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 1, 2)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    protocol = replace(CIFAR, **changes)
    sgd = SGD(network, protocol)
    sgd.step([torch.zeros_like(parameter) for parameter in sgd.parameters], rate_of(protocol, 400))
    for name, parameter in network.named_parameters():
        kind = "bn" if id(parameter) in norms else "gate" if name.endswith("gate.conv.bias") else "weight"
        factor = 1.0 if kind in spared else 1 - 0.1 * 1e-4
        torch.testing.assert_close(parameter.detach(), before[name] * factor, rtol=1e-12, atol=0)


def test_momentum_carries_nine_tenths():
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(layer.weight)
    sgd = SGD(layer, replace(CIFAR, weight_decay=0.0))
    places = []
    for iteration in range(3):
        slope = torch.full_like(layer.weight, 1.0 if iteration == 0 else 0.0)
        sgd.step([slope], rate_of(CIFAR, iteration))
        places.append(layer.weight.item())
    assert places == pytest.approx([-0.01, -0.019, -0.0271], rel=1e-12)


def drawn(spec):
    """The spec's network, built without a first draw of weights, initialised as in the paper."""
    with torch.device("meta"):
        network = spec.build()
    return initialise(network.to_empty(device="cpu"), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "spec",
    [
        cifar_spec(110),
        cifar_spec(110, branch="one-layer", order="full pre-activation"),
        cifar_spec(110, shortcut=shortcut("1x1 conv")),
        cifar_spec(110, shortcut=shortcut("exclusive gate", bias=-6)),
        cifar_spec(164),
        cifar_spec(164, order="full pre-activation"),
        cifar_spec(1001, order="full pre-activation"),
        cifar_spec(1202),
        imagenet_spec(101, order="BN after addition"),
        imagenet_spec(200, order="full pre-activation"),
    ],
    ids=str,
)
def test_initial_variance_of_every_layer(spec):
    """Var = 2 / (k k c_out), mean 0: each layer lies within 6 standard errors of both, and no layer repeats another."""
    first_weights = []
    for module in drawn(spec).modules():
        if isinstance(module, nn.Conv2d):
            weight, count = module.weight.detach(), module.weight.numel()
            variance = 2.0 / (weight.shape[2] * weight.shape[3] * weight.shape[0])
            assert abs(weight.var().item() / variance - 1) < 6 * (2 / count) ** 0.5
            assert abs(weight.mean().item()) < 6 * (variance / count) ** 0.5
            first_weights.append(weight.flatten()[0].item())
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)) and not module.bias.any()
            assert not module.running_mean.any() and (module.running_var == 1).all()
    assert len(set(first_weights)) > 0.99 * len(first_weights)


def test_initial_weights_are_normal():
    """The fourth moment of a normal is 3: a uniform draw (1.8) of the same variance would show."""
    weight = imagenet_resnet(50, seed=0).units[0].residual[3].weight.detach().double()
    assert ((weight / weight.std()) ** 4).mean().item() == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("changes, momentum, eps", [({}, 0.1, 1e-5), ({"bn_momentum": 0.3, "bn_eps": 0.5}, 0.3, 0.5)])
def test_bn_momentum_and_eps_as_trained(begun, changes, momentum, eps):
    state = begun(**changes)
    norms = [m for m in state.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 7 and all(isinstance(m, BatchNorm2d) for m in norms)
    assert {(m.momentum, m.eps) for m in norms} == {(momentum, eps)}
    conv, norm = state.network.stem[0], state.network.stem[1]
    images, _ = batch(state.batches, 0)
    with torch.no_grad():
        signal = conv(images)
    half = signal[:64]  # the first replica's
    expected = (signal[:64] - half.mean((0, 2, 3))[:, None, None]) / (
        half.var((0, 2, 3), unbiased=False)[:, None, None] + eps
    ).sqrt()
    torch.testing.assert_close(norm.train()(signal)[:64].detach(), expected, rtol=1e-4, atol=1e-4)
    state.on_device.statistics.update()
    torch.testing.assert_close(norm.running_mean, momentum * half.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, (1 - momentum) + momentum * half.var((0, 2, 3)))


@pytest.mark.parametrize("size", [1, 7, 50, 500])
def test_evaluation_is_over_all_test_images_whatever_the_batch(begun, monkeypatch, size):
    state = begun(NetworkSpec(8, shortcut=shortcut("dropout", p=0.5), widths=(2, 3, 4)))
    for _ in range(3):
        state.step()
    monkeypatch.setattr(training_state, "EVALUATION_BATCH", size)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    error = state.test_error()
    state.network.eval()
    images, labels = state.test.plain(0, 50)
    with torch.no_grad():
        wrong = (state.network(images).argmax(1) != labels).sum().item()
    assert error == 100.0 * wrong / 50
    assert all(torch.equal(value, before[name]) for name, value in state.network.state_dict().items())


def test_between_epochs_the_curve_counts_on_a_sample_and_its_end_on_all(begun, monkeypatch):
    monkeypatch.setattr(training_state, "SAMPLE", 20)
    state = begun(NetworkSpec(8, widths=(2, 3, 4)), iterations=3, drops=(1, 2), warmup=0)  # an epoch and a half
    seen = []
    state.test.plain = lambda start, stop, plain=state.test.plain: seen.append(stop - start) or plain(start, stop)
    while not state.finished:
        state.step()
        state.enter()
    assert seen == [20, 20, 50]
    assert state.results()["curve_test_images"] == 20 and len(state.results()["curve"]["test_error"]) == 3


def test_a_curve_of_epochs_counts_on_all_test_images(begun, monkeypatch):
    monkeypatch.setattr(training_state, "SAMPLE", 20)
    assert begun(iterations=100).sample is None  # 50 epochs
    monkeypatch.setattr(training_state, "SAMPLE", 50)
    assert begun(iterations=3).sample is None and "curve_test_images" not in begun(iterations=3).results()


def test_evaluation_leaves_training_in_training_mode(begun):
    state = begun()
    state.test_error()
    state.step()
    assert state.network.training


def test_every_row_trains_by_the_appendix():
    """The rows differ from the protocols in the batch of Table 4's dagger, and in the code that two rows name."""
    dagger = "cifar10-1001-pre-activation-batch-64"
    others = {dagger: replace(CIFAR, batch=64, bn_group=32), f"{dagger}-released": RELEASED}
    others["200-pre-activation-320-aspect-ratio"] = IMAGENET_ASPECT
    for row in (row for table in paper.TABLES for row in paper.rows(table)):
        assert row.protocol == others.get(row.id, IMAGENET if row.table == 5 else CIFAR)


def entered(protocol, images):
    """The iterations after which an entry of the curve is due."""
    return [i for i in range(1, protocol.iterations + 1) if training_state.due(i, protocol, images)]


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 300))
def test_a_run_of_any_length_has_at_least_twenty_points(iterations, batch, images):
    """The ends of the epochs, or those of twenty equal parts where there are fewer epochs."""
    ends = {math.ceil(part * iterations / 20) for part in range(1, 21)}
    if iterations * batch > 20 * images:  # an epoch ends in the batch that reaches its last image
        epochs = iterations * batch // images
        ends = {math.ceil(epoch * images / batch) for epoch in range(1, epochs + 1)} | {iterations}
    found = entered(replace(CIFAR, iterations=iterations, batch=batch), images)
    assert found == sorted(ends)
    assert len(found) >= min(iterations, 20) and found[-1] == iterations


def test_the_papers_curve_has_an_entry_an_epoch():
    """64,000 iterations of 128 of the 50,000 images: 163 epochs end in them, and then the run."""
    after = entered(CIFAR, 50_000)
    assert len(after) == 164 and after[:2] == [391, 782] and after[-2:] == [63_672, 64_000]
