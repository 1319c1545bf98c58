"""Networks by name: in the library and through torch.hub."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from identity_mappings import UsageError, create_model, list_models
from identity_mappings.experiments import paper
from identity_mappings.nets.models import SUFFIXES, model_spec
from identity_mappings.nets.networks import IMAGENET_UNITS

ROOT = Path(__file__).resolve().parents[2]


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
    spec = model_spec("cifar_resnet110_1layer_preact")
    assert (spec.branch, spec.depth) == ("one-layer", 110)


def test_every_network_of_the_paper_has_a_name():
    """Of each row: its depth, kind of unit and order, whatever its shortcut, which is a choice and no name."""
    named = {(s.depth, s.branch, s.order) for s in map(model_spec, list_models())}
    networks = [network for row in paper.rows() for network in row.networks.values()]
    assert networks and {(s.depth, s.branch, s.order) for s in networks} <= named
    for order in SUFFIXES.values():
        assert {depth for depth, _, o in named if o == order} >= {110, 164, 1001}
    assert len(list_models("resnet*")) == len(IMAGENET_UNITS) * len(SUFFIXES)


def test_patterns():
    assert list_models("cifar_resnet164*") == sorted(list_models("cifar_resnet164*"))
    assert "resnet200_preact" in list_models("resnet200*") and not list_models("vgg*")


def test_choices_and_mistakes():
    network = create_model("cifar_resnet20", widths=(4, 8, 12), seed=3)
    again = create_model("cifar_resnet20", widths=(4, 8, 12), seed=3)
    assert torch.equal(network.classifier.weight, again.classifier.weight)
    with pytest.raises(UsageError, match="no model is called .*; the nearest: cifar_resnet110_preact"):
        create_model("cifar_resnet110_preactivated")
    with pytest.raises(UsageError, match="choice of a network must be one of: order,.*got 'ordre'"):
        create_model("cifar_resnet20", ordre="original")


LOADED = """
import torch, sys
network = torch.hub.load(sys.argv[1], "cifar_resnet20_preact", source="local", num_classes=7, channels=1)
print(tuple(network(torch.zeros(2, 1, 8, 8)).shape), sys.modules["identity_mappings"].__file__)
"""


def test_torch_hub_loads_from_a_checkout(tmp_path):
    """In an interpreter that knows nothing of this library."""
    command = [sys.executable, "-I", "-c", LOADED, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\n")[0] == f"(2, 7) {ROOT / 'pkg/identity_mappings/__init__.py'}"


def test_hubconf_has_an_entry_for_each_name():
    """Seen as torch.hub sees it: what can be called and does not start with an underscore."""
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    entries = [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")]
    assert entries == list_models()
    assert hubconf.cifar_resnet20_preact(widths=(2, 4, 6)).spec.order == "full pre-activation"
    assert "cifar_resnet20_preact" in hubconf.cifar_resnet20_preact.__doc__
    assert all(importlib.util.find_spec(name) for name in hubconf.dependencies)
