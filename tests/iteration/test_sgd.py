"""The optimiser against torch.optim.SGD bit for bit, its two velocities in a loop of three lines, and what decays."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from identity_mappings import cifar_resnet, shortcut
from identity_mappings.experiments.protocols import CIFAR
from identity_mappings.iteration.sgd import SGD, decaying

SHORT = replace(CIFAR, iterations=12, warmup=3, drops=(6, 9))
RATES = [0.01] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001] * 3


def rates(protocol, dtype=torch.float32):
    return torch.tensor([protocol.rate(iteration) for iteration in range(protocol.iterations)], dtype=dtype).split(1)


def path(velocity):
    """The weights of a quadratic bowl after each step."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 1, bias=False).double()
    curvature = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    sgd, start, steps = SGD(layer, replace(SHORT, velocity=velocity)), layer.weight.detach().clone(), []
    for rate in rates(SHORT, torch.float64):
        sgd.step(torch.autograd.grad((curvature * layer.weight**2).sum(), sgd.parameters), rate)
        steps.append(layer.weight.detach().clone())
    return start, 2 * curvature, torch.stack(steps)


@pytest.mark.parametrize("velocity", ["caffe", "pytorch"])
def test_velocity_across_changes_of_rate(velocity):
    w, slope, got = path(velocity)
    v, expected = torch.zeros_like(w), []
    for rate in RATES:
        g = slope * w + 1e-4 * w
        v = 0.9 * v + (rate * g if velocity == "caffe" else g)
        w = w - (v if velocity == "caffe" else rate * v)
        expected.append(w)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_the_velocities_part_at_the_first_change_of_rate():
    caffe, pytorch = path("caffe")[2], path("pytorch")[2]
    torch.testing.assert_close(caffe[:3], pytorch[:3])
    assert not torch.allclose(caffe[3], pytorch[3])


@pytest.mark.parametrize("decay_bn", [True, False])
@pytest.mark.parametrize("decay_gate_bias", [True, False])
def test_what_decays(decay_bn, decay_gate_bias):
    network = cifar_resnet(8, shortcut=shortcut("exclusive gate", bias=-6))
    protocol = replace(CIFAR, decay_bn=decay_bn, decay_gate_bias=decay_gate_bias)
    groups = dict(zip((1e-4, 0.0), decaying(network, protocol), strict=True))
    decays = {id(p): decay for decay, group in groups.items() for p in group}
    assert len(decays) == sum(map(len, groups.values())) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        vector = parameter.ndim == 1 and name != "classifier.bias"
        decayed = (decay_gate_bias if "gate" in name else decay_bn) if vector else True
        assert decays[id(parameter)] == (1e-4 if decayed else 0.0), name


def by_torch(network, protocol, gradients):
    """The parameters after torch.optim.SGD, one tensor at a time, has taken those gradients; velocity as PyTorch's."""
    decayed, spared = decaying(network, protocol)
    groups = [{"params": decayed, "weight_decay": protocol.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    options = {"momentum": protocol.momentum, "nesterov": protocol.nesterov, "foreach": False}
    torch_sgd = torch.optim.SGD(groups, lr=1.0, **options)
    for iteration, each in enumerate(gradients):
        for group in torch_sgd.param_groups:
            group["lr"] = protocol.rate(iteration)
        for parameter, gradient in zip(network.parameters(), each, strict=True):
            parameter.grad = gradient.clone()
        torch_sgd.step()
    return [parameter.detach() for parameter in network.parameters()]


@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    momentum=st.sampled_from([0.9, 0.5]),
    weight_decay=st.sampled_from([1e-4, 0.03, 0.0]),
    nesterov=st.booleans(),
    decay_bn=st.booleans(),
    channels_last=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_flat_is_torch_bit_for_bit(seed, scale, momentum, weight_decay, nesterov, decay_bn, channels_last):
    """On a network's own shapes, whose sizes are no multiples of a vector's, across both drops and the warm-up."""
    protocol = replace(
        SHORT, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, decay_bn=decay_bn, warmup_rate=0.013
    )
    ours, theirs = (cifar_resnet(8, seed=0, widths=(5, 7, 9)) for _ in range(2))
    ours = ours.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    generator, shapes = torch.Generator().manual_seed(seed), [p.shape for p in ours.parameters()]
    gradients = [[scale * torch.randn(shape, generator=generator) for shape in shapes] for _ in RATES]
    sgd = SGD(ours, protocol)
    place = {id(parameter): k for k, parameter in enumerate(ours.parameters())}
    for each, rate in zip(gradients, rates(protocol), strict=True):
        sgd.step([each[place[id(parameter)]] for parameter in sgd.parameters], rate)
    expected = by_torch(theirs, protocol, gradients)
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), expected, strict=True))


@pytest.mark.parametrize("velocity", ["caffe", "pytorch"])
def test_nesterov_looks_ahead(velocity):
    """w' = w - rate g - m (the part of the next step that is known): both velocities, at one rate."""
    layer = nn.Linear(3, 1, bias=False).double()
    w, sgd = layer.weight.detach().clone(), SGD(layer, replace(SHORT, velocity=velocity, nesterov=True, weight_decay=0))
    rate, step = torch.tensor([0.05], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    for _ in range(4):
        g = torch.randn(1, 3, dtype=torch.float64)
        step = 0.9 * step + 0.05 * g
        w = w - (0.05 * g + 0.9 * step)
        sgd.step([g], rate)
        torch.testing.assert_close(layer.weight.detach(), w, rtol=1e-12, atol=1e-12)


def test_parameters_are_views_that_keep_their_values_and_their_order():
    network = cifar_resnet(8, seed=0).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    sgd = SGD(network, replace(CIFAR, decay_bn=False))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for parameter in network.parameters():
        assert parameter.untyped_storage().data_ptr() == sgd.weights.untyped_storage().data_ptr()
        assert parameter.ndim < 4 or parameter.is_contiguous(memory_format=torch.channels_last)
    assert sum(parameter.numel() for parameter in network.parameters()) == len(sgd.packed(sgd.weights))
