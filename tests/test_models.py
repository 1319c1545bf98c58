"""Networks by name: in the library and through torch.hub."""

import re
from pathlib import Path

import pytest
import torch

from identity_mappings import ORDERS, UsageError, create_model, list_models, paper
from identity_mappings.networks import IMAGENET_UNITS

ROOT = Path(__file__).resolve().parents[1]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    "name, count",
    [
        ("cifar_resnet110", 1_727_962),
        ("cifar_resnet110_preact", 1_727_962),
        ("cifar_resnet164_bn_after_add", 1_703_258),
        ("cifar_resnet1202", 19_421_274),
        ("resnet50", 25_557_032),  # torchvision's counts, as the next one
        ("resnet152", 60_192_808),
    ],
)
def test_parameter_counts(name, count):
    with torch.device("meta"):
        assert parameters(create_model(name)) == count


def test_a_name_says_order_and_depth():
    spec = create_model("cifar_resnet20_relu_only_preact", num_classes=100).spec
    assert (spec.depth, spec.order, spec.classes) == (20, "ReLU-only pre-activation", 100)
    with torch.device("meta"):
        spec = create_model("cifar_resnet110_1layer_preact").spec
    assert (spec.branch, spec.depth) == ("one-layer", 110)


def test_every_network_of_the_paper_has_a_name():
    """Of each row: its depth, kind of unit and order, whatever its shortcut, which is a choice and no name."""
    with torch.device("meta"):
        named = {(s.depth, s.branch, s.order) for s in (create_model(name).spec for name in list_models("cifar_*"))}
    networks = [network for row in paper.rows() for network in row.networks.values()]
    assert networks and {(s.depth, s.branch, s.order) for s in networks} <= named
    for order in ORDERS:
        assert {depth for depth, _, o in named if o == order} >= {110, 164, 1001}
    assert len(list_models("resnet*")) == len(IMAGENET_UNITS) * len(ORDERS)


def test_patterns():
    assert list_models("cifar_resnet164*") == sorted(list_models("cifar_resnet164*"))
    assert "resnet200_preact" in list_models("resnet200*") and not list_models("vgg*")


def test_choices_and_mistakes():
    network = create_model("cifar_resnet20", widths=(4, 8, 12), seed=3)
    again = create_model("cifar_resnet20", widths=(4, 8, 12), seed=3)
    assert torch.equal(network.classifier.weight, again.classifier.weight)
    with pytest.raises(UsageError, match="no model is called 'cifar_resnet110_preactivated'; the nearest: cifar_resnet110_p"):
        create_model("cifar_resnet110_preactivated")
    with pytest.raises(UsageError, match="choice of a network must be one of: order,.*got 'ordre'"):
        create_model("cifar_resnet20", ordre="original")


def test_torch_hub_finds_every_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert torch.hub.list(str(ROOT), source="local") == list_models() if "source" in torch.hub.list.__code__.co_varnames else True
    network = torch.hub.load(str(ROOT), "cifar_resnet20_preact", source="local", num_classes=7, channels=1)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
