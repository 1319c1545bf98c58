"""The counts against the figures of the paper's networks, worked out by hand, and against what autograd keeps."""

import pytest
import torch
from torch import nn

from identity_mappings import shortcut
from identity_mappings.nets.counts import _outline, activation_bytes, count, parameters
from identity_mappings.nets.networks import cifar_spec, imagenet_spec
from identity_mappings.nets.norm import set_group


@pytest.mark.parametrize(
    "depth, gflop, elements",
    [(110, 1.52, 1.05), (164, 1.47, 3.23), (1001, 8.93, 19.2), (1202, 17.0, 11.5)],
)
def test_counts_of_the_papers_networks(depth, gflop, elements):
    found = count(cifar_spec(depth))
    assert found.training_flops == pytest.approx(gflop * 1e9, rel=0.004)
    assert found.elements == pytest.approx(elements * 1e6, rel=0.005)


def test_counts_of_a_small_network_by_hand():
    """ResNet-8 at 8x8: the stem, three units of two 3x3 convs at 16, 32, 64 channels, the classifier."""
    convs = [(3, 16, 64), (16, 16, 64), (16, 16, 64), (16, 32, 16), (32, 32, 16), (32, 64, 4), (64, 64, 4)]
    found = count(cifar_spec(8), (8, 8))
    assert found.elements == sum(out * places for _, out, places in convs)
    assert found.macs == sum(9 * into * out * places for into, out, places in convs) + 64 * 10


def test_multiply_adds_of_a_net_with_zero_padded_shortcuts():
    # stem 3x3 from 3 to 16 on 8x8; a unit of two convs at each of three sizes; a linear layer
    stem = 9 * 3 * 16 * 64
    units = 2 * 9 * 16 * 16 * 64 + 9 * (16 * 32 + 32 * 32) * 16 + 9 * (32 * 64 + 64 * 64) * 4
    assert count(cifar_spec(8), (8, 8)).macs == stem + units + 64 * 10


def test_multiply_adds_of_resnet_152_are_those_of_its_paper():
    assert count(imagenet_spec(152), (224, 224)).macs == pytest.approx(11.3e9, rel=0.01)  # He et al. 2015, Table 1


@pytest.mark.parametrize("spec, number", [(cifar_spec(110), 1_727_962), (imagenet_spec(152), 60_192_808)])
def test_parameters(spec, number):
    assert parameters(spec) == number


def counted_whole(spec, size):
    """(elements, widest, macs) of the whole network, layer by layer, from one real image."""
    network, convs, macs = spec.build().eval(), [], []

    def note(module, _, output):
        convs.append(output.numel() * isinstance(module, nn.Conv2d))
        macs.append(output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.zeros(1, spec.channels, *size))
    return sum(convs), max(convs), sum(macs)


@pytest.mark.parametrize(
    "spec",
    [
        *(cifar_spec(depth, branch=branch) for depth, branch in ((8, "basic"), (20, "basic"), (35, "one-layer"))),
        cifar_spec(38, branch="bottleneck", order="full pre-activation"),
        cifar_spec(20, shortcut=shortcut("exclusive gate", bias=-6)),
        cifar_spec(20, shortcut=shortcut("1x1 conv")),
        imagenet_spec(50, widths=(4, 8, 16, 32)),
    ],
    ids=str,
)
def test_a_deep_net_is_counted_from_two_units_of_each_stage(spec):
    counts = count(spec, (32, 24))
    assert (counts.elements, counts.widest, counts.macs) == counted_whole(spec, (32, 24))
    assert parameters(spec) == sum(parameter.numel() for parameter in spec.build().parameters())


def test_the_deepest_net_is_built_in_outline_only():
    """ResNet-1202 once took seconds, and a check of a hundred records a minute of them."""
    network, times = _outline(cifar_spec(1202))
    assert len(network.units) == 6 and sum({times[unit] for unit in network.units} - {1}) == 199


def kept(spec, batch, precision, side=32):
    """Bytes of all that autograd saves in a training pass, but for the parameters, each storage once."""
    network = spec.build().to(memory_format=torch.channels_last).train()
    set_group(network, batch // 2)
    storages, own = {}, {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        network(images)
    return sum(t.untyped_storage().nbytes() for address, t in storages.items() if address not in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("order", ["original", "full pre-activation"])
@pytest.mark.parametrize("depth, branch", [(20, "basic"), (29, "bottleneck")])
def test_what_a_step_keeps_is_about_what_is_estimated(depth, branch, order, precision):
    spec = cifar_spec(depth, branch=branch, order=order)
    assert kept(spec, 8, precision) == pytest.approx(activation_bytes(spec, (32, 32), 8, precision), rel=0.2)


def test_what_an_imagenet_net_keeps_is_about_what_is_estimated():
    spec = imagenet_spec(50, order="full pre-activation", widths=(16, 32, 64, 128))
    assert kept(spec, 2, "fp32", 96) == pytest.approx(activation_bytes(spec, (96, 96), 2, "fp32"), rel=0.2)
