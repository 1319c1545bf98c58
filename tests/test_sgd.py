"""The optimiser against its two velocities in a loop of three lines, and what weight decay spares."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from identity_mappings import cifar_resnet, shortcut
from identity_mappings.protocols import CIFAR
from identity_mappings.training.sgd import SGD, parameter_groups

SHORT = replace(CIFAR, iterations=12, warmup=3, drops=(6, 9))
RATES = [0.01] * 3 + [0.1] * 3 + [0.01] * 3 + [0.001] * 3


def path(velocity):
    """The weights of a quadratic bowl after each step."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 1, bias=False).double()
    curvature = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    sgd, start, steps = SGD(layer, replace(SHORT, velocity=velocity)), layer.weight.detach().clone(), []
    for iteration in range(len(RATES)):
        (curvature * layer.weight**2).sum().backward()
        sgd.step(iteration)
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
    groups = parameter_groups(network, protocol)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decays) == sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        vector = parameter.ndim == 1 and name != "classifier.bias"
        decayed = (decay_gate_bias if "gate" in name else decay_bn) if vector else True
        assert decays[id(parameter)] == (1e-4 if decayed else 0.0), name
