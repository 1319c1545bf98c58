"""The orders of Fig. 4 word by word, and the networks that they leave when the shortcut is taken away."""

import pytest
import torch

from identity_mappings import ORDERS, UsageError, cifar_resnet, shortcut
from identity_mappings.nets.orders import order

# Read off the figure, top to bottom: the branch of two weight layers, then what follows the addition.
FIG_4 = {
    "original": ("conv bn relu conv bn", "relu"),
    "BN after addition": ("conv bn relu conv", "bn relu"),
    "ReLU before addition": ("conv bn relu conv bn relu", ""),
    "ReLU-only pre-activation": ("relu conv bn relu conv bn", ""),
    "full pre-activation": ("bn relu conv bn relu conv", ""),
}


def parameters(build, *args, **choices):
    with torch.device("meta"):
        return sum(p.numel() for p in build(*args, **choices).parameters())


@pytest.mark.parametrize("name", FIG_4)
def test_words_are_those_of_figure_4(name):
    residual, after = FIG_4[name]
    assert " ".join(order(name).residual(2)) == residual
    assert " ".join(order(name).after) == after


def test_the_first_five_orders_are_the_figures():
    assert [o.figure for o in ORDERS.values()][:5] == [f"Fig. 4({panel})" for panel in "abcde"]
    assert list(ORDERS)[:5] == list(FIG_4)


def test_only_the_orders_that_end_in_bn_follow_a_projection_by_one():
    ends_in_bn = {"original", "ReLU before addition", "ReLU-only pre-activation"}
    assert {name for name in FIG_4 if order(name).projection == ("conv", "bn")} == ends_in_bn


def test_unknown_order_lists_the_closest_first():
    with pytest.raises(UsageError, match="must be one of: full pre-activation, .*got 'full preactivation'"):
        cifar_resnet(8, order="full preactivation")


@pytest.mark.parametrize("name", FIG_4)
@pytest.mark.parametrize("depth, count", [(110, 1_727_962), (164, 1_703_258)])
def test_every_order_has_as_many_parameters(name, depth, count):
    assert parameters(cifar_resnet, depth, order=name, projection_bn=False) == count


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("branch, depth", [("one-layer", 8), ("basic", 14), ("bottleneck", 20)])
def test_without_a_shortcut_all_orders_are_one_plain_net(branch, depth, training):
    torch.manual_seed(0)
    images, weights, logits = torch.randn(4, 3, 16, 16), None, []
    for name in ORDERS:
        net = cifar_resnet(depth, branch=branch, order=name, shortcut=shortcut("scaled", a=0, b=1), widths=(4, 8, 12))
        if weights is None:
            weights = [
                torch.rand_like(v) + 0.5 if v.ndim == 1 else v.clone() for v in net.state_dict().values()
            ]  # scales, shifts and running statistics that differ, so that a swapped pair would show
        own = net.state_dict()
        assert [v.shape for v in own.values()] == [w.shape for w in weights]
        net.load_state_dict(dict(zip(own, weights, strict=True)))
        logits.append(net.train(training)(images))
    assert all(torch.equal(logits[0], other) for other in logits[1:])


def test_with_a_shortcut_the_orders_differ():
    images, logits = torch.randn(4, 3, 16, 16), []
    for name in ("original", "BN after addition", "ReLU before addition"):
        logits.append(cifar_resnet(8, order=name, seed=0)(images))
    assert not torch.allclose(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2])
