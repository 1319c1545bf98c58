"""Measurements against a pass written out by hand, on signals whose answer is known, and without a trace in the run."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from identity_mappings import ORDERS, UsageError, cifar_resnet, shortcut
from identity_mappings.analysis.measurements import columns, measure
from identity_mappings.nets.norm import set_group
from identity_mappings.nets.orders import order
from identity_mappings.nets.units import Conv, ResidualUnit
from identity_mappings.training.state import State

NETWORKS = [{"depth": 8, "order": name} for name in ORDERS]
NETWORKS += [
    {"depth": 8, "shortcut": shortcut("shortcut-only gate", bias=-1)},
    {"depth": 8, "shortcut": shortcut("1x1 conv")},
]
NETWORKS += [{"depth": 11, "branch": "bottleneck", "order": "BN after addition"}, {"depth": 5, "branch": "one-layer"}]


def batch(n=6, side=8, classes=10):
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(n, 3, side, side, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, classes, (n,), generator=generator)


def network(depth, training=True, **choices):
    return cifar_resnet(depth, seed=3, **choices).double().train(training)


def by_hand(net, images, labels):
    """The same statistics from a loop over a copy's units, gradients from `retain_grad`."""
    net, rows, signals = copy.deepcopy(net), [], []
    x = net.stem(images)
    for unit in net.units:
        x.retain_grad()
        signals.append(x)
        entered = unit.before(x)
        f = unit.residual(entered)
        y = unit.shortcut(unit.resize(entered), f)
        z, cut = y, 0.0
        for module in unit.after:
            cut = (z < 0).sum().item() / z.numel() if isinstance(module, nn.ReLU) else cut
            z = module(z)
        negative = (y < 0).sum().item() / y.numel()
        sizes = [((each - middle) ** 2).mean() ** 0.5 for each, middle in ((x, 0), (f, 0), (y, y.mean()))]
        rows.append([negative, cut, *(value.item() for value in (*sizes[:2], y.mean(), sizes[2]))])
        x = z
    F.cross_entropy(net.classifier(net.tail(x).mean((2, 3))), labels).backward()
    return [[*row, signal.grad.norm().item()] for row, signal in zip(rows, signals, strict=True)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("choices", NETWORKS, ids=str)
def test_measured_is_what_a_loop_by_hand_gives(choices, training):
    net = network(training=training, **choices)
    images, labels = batch()
    found = columns(measure(net, images, labels))
    assert found.pop("unit") == list(range(len(net.units)))
    for got, expected in zip(found.values(), zip(*by_hand(net, images, labels), strict=True), strict=True):
        assert got == pytest.approx(list(expected), rel=1e-9, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3).filter(lambda w: abs(1 + w) > 0.01), st.floats(0, 1))
def test_a_unit_that_multiplies_by_a_known_number(weight, positive):
    # in evaluation BN is the identity but for its epsilon, so that y = x + w x: negative where x is not, or where x is
    unit = ResidualUnit(1, [Conv(1, 1)], order("original"), shortcut()).double().eval()
    unit.residual[0].weight.data.fill_(weight)
    net = nn.Sequential(unit, nn.Flatten()).eval()
    count = round(positive * 16)
    images = torch.cat([torch.ones(count), -torch.ones(16 - count)]).reshape(1, 1, 4, 4).double()
    (found,) = measure(net, images, torch.tensor([0]))
    share = count / 16 if 1 + weight < 0 else 1 - count / 16
    assert found.negative == found.truncated == pytest.approx(share)
    assert found.signal == pytest.approx(1.0)
    assert found.residual == pytest.approx(abs(weight), rel=1e-4)
    assert found.mean == pytest.approx((1 + weight) * (2 * count / 16 - 1), rel=1e-4, abs=1e-4)


def test_an_identity_f_truncates_nothing_though_y_is_negative():
    images, labels = batch()
    found = measure(network(14, order="full pre-activation"), images, labels)
    assert all(each.truncated == 0.0 and each.negative > 0.1 for each in found)


def everything(net):
    """All that a pass could change, as comparable values."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    grads = {f"grad of {name}": parameter.grad for name, parameter in net.named_parameters()}
    random = torch.get_rng_state()
    modes = [module.training for module in net.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()]
    copies = {name: None if t is None else t.detach().clone() for name, t in (tensors | grads | {"": random}).items()}
    return copies, modes, hooks, [p.requires_grad for p in net.parameters()]


def same(one, other):
    tensors, *rest = one
    others, *other_rest = other
    assert rest == other_rest
    for name, tensor in tensors.items():
        assert (tensor is None) == (others[name] is None) and (tensor is None or torch.equal(tensor, others[name])), (
            name
        )


@pytest.mark.parametrize("grads", ["none", "some"])
@pytest.mark.parametrize("kind", [{"p": 0.5}, {}], ids=["dropout", "identity"])
def test_nothing_of_the_network_changes(kind, grads):
    torch.manual_seed(5)
    net = network(8, shortcut=shortcut("dropout", **kind) if kind else shortcut())
    images, labels = batch()
    if grads == "some":
        F.cross_entropy(net(images), labels).backward()
    net.units[1].eval()  # modes may differ within a network
    net.units[2].residual[0].weight.requires_grad_(False)
    before, pixels = everything(net), images.clone()
    measure(net, images, labels)
    same(before, everything(net))
    assert torch.equal(images, pixels) and not images.requires_grad


def test_nothing_changes_where_the_pass_fails():
    net = network(8)
    before = everything(net)
    with pytest.raises(RuntimeError):
        measure(net, torch.zeros(2, 4, 8, 8, dtype=torch.float64), torch.tensor([0, 1]))
    same(before, everything(net))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_measured_inside_a_pass_without_gradients(guard):
    net = network(8)
    expected = measure(net, *batch())
    with guard():
        assert measure(net, *batch()) == expected
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert measure(net, *batch()) == expected


def test_a_run_that_is_measured_ends_in_the_same_weights(run):
    def trained(measuring):
        state = State(run.recipe, 0, "cpu", "fp32")
        for iteration in range(4):
            state.step()
            if measuring:
                measure(state.network, *state.batches.images.plain(32 * iteration, 32 * iteration + 32))
        return state.network.state_dict()

    plain, measured = trained(False), trained(True)
    assert all(torch.equal(tensor, measured[name]) for name, tensor in plain.items())


def test_bn_groups_are_those_of_the_run():
    net = network(8)
    images, labels = batch()
    whole = measure(net, images, labels)
    set_group(net, 3)
    assert measure(net, images, labels) != whole
    assert measure(net, images, labels)[-1].negative == pytest.approx(by_hand(net, images, labels)[-1][0])


def test_a_network_without_units_is_refused():
    with pytest.raises(UsageError, match="Residual Units can be measured; got a Linear"):
        measure(nn.Linear(3, 2), torch.zeros(1, 3), torch.tensor([0]))
