"""Networks as a whole: depths, shapes, initial weights, and where a bottleneck strides."""

import math

import pytest
import torch
from torch import nn

from identity_mappings import NetworkSpec, UsageError, cifar_resnet, imagenet_resnet, shortcut
from identity_mappings.nets.networks import IMAGENET_UNITS, bn_eps, cifar_spec, imagenet_spec, set_bn_eps


@pytest.mark.parametrize("depth, branch", [(8, "one-layer"), (110, "basic"), (164, "bottleneck"), (11, "bottleneck")])
def test_depth_counts_the_weight_layers(depth, branch):
    with torch.device("meta"):
        network = cifar_resnet(depth, branch=branch)
    shortcuts = sum(isinstance(m, nn.Conv2d) for unit in network.units for m in unit.resize.modules())
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
    assert layers - shortcuts == depth


@pytest.mark.parametrize("depth", IMAGENET_UNITS)
def test_imagenet_depth_counts_the_weight_layers(depth):
    assert 3 * sum(imagenet_spec(depth).units) + 2 == depth


@pytest.mark.parametrize(
    "depth, branch, rule",
    [(9, "basic", "6n+2 (20, 56, 110)"), (100, "bottleneck", "9n+2 (164, 1001)"), (2, "basic", "6n+2 (20, 56, 110)")]
    + [(0, "one-layer", "3n+2 (110)"), (-4, "basic", "6n+2 (20, 56, 110)")],
)
def test_impossible_depths_are_refused(depth, branch, rule):
    with pytest.raises(UsageError) as caught:
        NetworkSpec(depth, branch=branch)
    assert str(caught.value) == f"depth of a {branch} net must be {rule}; got {depth}"


@pytest.mark.parametrize(
    "widths, message",
    [
        ((64, 128, 256, 512), r"depth of a basic net of 4 stages must be 8n\+2 \(10, 18, 26\); got 20"),
        ((), "widths must be one a stage, one stage or more; got none"),
    ],
)
def test_the_rule_of_a_net_of_other_stages(widths, message):
    with pytest.raises(UsageError, match=message):
        NetworkSpec(20, widths=widths)


def test_imagenet_networks_have_four_widths():
    with pytest.raises(ValueError):
        imagenet_resnet(50, widths=(4, 6, 8))


@pytest.mark.parametrize("build, depth", [(cifar_resnet, 8), (imagenet_resnet, 50)])
def test_a_seed_is_given_by_name(build, depth):
    with pytest.raises(TypeError):
        build(depth, 3)


def test_unknown_imagenet_depth_is_refused():
    with pytest.raises(UsageError, match="ImageNet depth must be one of: .*got 34"):
        imagenet_resnet(34)


@pytest.mark.parametrize("widths", [(4, 6, 8), (4, 6, 8, 10, 12)])
def test_widths_of_another_number_of_stages_are_refused(widths):
    with pytest.raises(UsageError) as caught:
        imagenet_resnet(50, widths=widths)
    assert str(caught.value) == f"widths must be one a stage, 4 of them; got {widths}"


def test_the_epsilon_of_bn_is_given_to_all_of_them():
    net = cifar_resnet(8)
    assert bn_eps(net) == 1e-5
    set_bn_eps(net, 1e-3)
    assert bn_eps(net) == 1e-3
    assert {module.eps for module in net.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    assert not hasattr(net.classifier, "eps")
    assert bn_eps(nn.Linear(1, 1)) == nn.BatchNorm2d(1).eps


@pytest.mark.parametrize("depth", ["50", 50.0, None])
@pytest.mark.parametrize("build", [imagenet_resnet, cifar_resnet])
def test_a_depth_that_is_no_whole_number_is_refused(build, depth):
    with pytest.raises(UsageError) as caught:
        build(depth)
    assert str(caught.value) == f"depth must be a whole number of layers; got {depth!r}"


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (8, 16)])
def test_images_of_any_size_become_logits(size):
    network = cifar_resnet(11, branch="bottleneck", channels=1, classes=7, widths=(4, 8, 12))
    assert network(torch.randn(2, 1, *size)).shape == (2, 7)


def test_imagenet_network_gives_a_thousand_logits():
    with torch.device("meta"):
        assert imagenet_resnet(50)(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_imagenet_stem_quarters_the_map():
    """A 7x7 conv at stride 2 with three pixels of padding, then 3x3 max pooling at stride 2 with one."""
    stem = imagenet_resnet(50, widths=(4, 6, 8, 10), seed=0).stem
    x = torch.randn(2, 3, 30, 30)
    conv = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (3, 3, 3, 3)), stem[0].weight, stride=2)
    activated = torch.relu(
        (conv - conv.mean((0, 2, 3), True)) / (conv.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
    )
    pooled = torch.nn.functional.max_pool2d(torch.nn.functional.pad(activated, (1, 1, 1, 1)), 3, 2)
    assert pooled.shape == (2, 4, 8, 8)
    torch.testing.assert_close(stem(x), pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride_on, strides", [("first", [2, 1, 1]), ("3x3", [1, 2, 1])])
def test_where_a_bottleneck_strides(stride_on, strides):
    opener = cifar_resnet(11, branch="bottleneck", stride_on=stride_on).units[1]
    assert [m.stride[0] for m in opener.residual if isinstance(m, nn.Conv2d)] == strides


def test_initial_weights():
    network = cifar_resnet(8, widths=(32, 64, 128), resize="projection", seed=0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 3:
            area = module.kernel_size[0] ** 2
            assert module.weight.var().item() == pytest.approx(2 / (area * module.out_channels), rel=0.1)
            assert abs(module.weight.mean().item()) < 4 * module.weight.std().item() / math.sqrt(module.weight.numel())
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
    weight, bound = network.classifier.weight, 1 / math.sqrt(128)
    assert 0.98 * bound < weight.abs().max().item() <= bound
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.15)  # of a uniform draw
    assert (network.classifier.bias == 0).all()


def test_a_seed_fixes_the_weights():
    def weights(seed):
        return torch.cat([p.flatten() for p in cifar_resnet(8, seed=seed).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_the_papers_choices_follow_from_the_depth():
    assert (cifar_spec(110).branch, cifar_spec(110).resize) == ("basic", "pad")
    assert (cifar_spec(1001).branch, cifar_spec(1001).resize) == ("bottleneck", "projection")
    assert cifar_spec(164, branch="bottleneck", resize="pad").resize == "pad"


def test_names():
    assert str(cifar_spec(110, branch="one-layer")) == "ResNet-110(1layer), original"
    assert str(cifar_spec(110, order="BN after addition")) == "ResNet-110, BN after addition"
    assert str(cifar_spec(164)) == "ResNet-164, original"
    dropped = cifar_spec(110, shortcut=shortcut("dropout", p=0.5))
    assert "dropout(p=0.5" in str(dropped)
    assert dropped.to_json()["shortcut"] == {"kind": "dropout", "p": 0.5, "rescale": False}
