"""Each panel of Fig. 2 against its formula in double precision."""

import pytest
import torch

from identity_mappings import NetworkSpec, UsageError, initialise, shortcut
from identity_mappings.nets.shortcuts import Dropout, ExclusiveGate, Gate, ShortcutGate


@pytest.fixture
def signals():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 6, 5, 4, 4, generator=generator, dtype=torch.float64)  # x and f, each (6, 5, 4, 4)


def built(kind, channels=5, **options):
    torch.manual_seed(2)
    return shortcut(kind, **options).build(channels, channels, 1).double()


def pointwise(weight, x):
    """A 1x1 convolution as a product over channels."""
    return torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_identity(signals):
    x, f = signals
    close(built("identity")(x, f), x + f)


@pytest.mark.parametrize("a, b", [(0.5, 1), (0.5, 0.5), (0, 1), (0, 0.25), (-0.5, 1), (1, 0)])
def test_constant_scaling(signals, a, b):
    x, f = signals
    close(built("scaled", a=a, b=b)(x, f), a * x + b * f)


def test_plain_net_does_not_read_x(signals):
    _, f = signals
    assert torch.equal(built("scaled", a=0, b=1)(torch.full_like(f, torch.nan), f), f)


@pytest.mark.parametrize(
    "chosen, resizes",
    [
        (shortcut("scaled", a=0, b=1), True),  # a plain net has no use for a resized x
        (shortcut("scaled", a=1, b=0), False),
        (shortcut("scaled", a=-1, b=1), False),
        (shortcut("1x1 conv"), True),
        (shortcut(), False),
        (shortcut("dropout", p=0.5), False),
        (shortcut("exclusive gate", bias=0), False),
        (shortcut("shortcut-only gate", bias=0), False),
    ],
    ids=str,
)
def test_which_shortcuts_need_no_resizing(chosen, resizes):
    assert chosen.resizes == resizes


def test_the_classes_own_defaults_are_the_papers():
    assert Gate(4, -6).bn is None
    assert ExclusiveGate(4, -6).gate.bn is None and ShortcutGate(4, -6).gate.bn is None
    assert not Dropout(0.5).rescale


@pytest.mark.parametrize("kind", ["exclusive gate", "shortcut-only gate"])
def test_gates(signals, kind):
    x, f = signals
    module = built(kind, bias=-1)
    conv = module.gate.conv
    g = 1 / (1 + torch.exp(-pointwise(conv.weight, x) - conv.bias[:, None, None]))
    close(module(x, f), (1 - g) * x + (g * f if kind == "exclusive gate" else f))


@pytest.mark.parametrize("bn", [False, True])
@pytest.mark.parametrize("bias", [0, -6, -7])
def test_a_gates_bias_starts_where_its_row_says(bias, bn):
    gated = shortcut("exclusive gate", bias=bias, bn=bn)
    network = initialise(NetworkSpec(8, shortcut=gated, widths=(4, 8, 12)).build())
    gates = [module for module in network.modules() if isinstance(module, Gate)]
    assert len(gates) == 3
    assert all((gate.bias == bias).all() for gate in gates)


def test_conv_1x1_in_evaluation(signals):
    x, f = signals
    module = built("1x1 conv").eval()
    for tensor in (module.bn.weight, module.bn.bias, module.bn.running_mean, module.bn.running_var):
        torch.nn.init.uniform_(tensor, 0.5, 2)
    scale = module.bn.weight / torch.sqrt(module.bn.running_var + 1e-5)
    z = pointwise(module.conv.weight, x) - module.bn.running_mean[:, None, None]
    close(module(x, f), z * scale[:, None, None] + module.bn.bias[:, None, None] + f)


def test_conv_1x1_takes_x_to_the_shape_of_f():
    module = shortcut("1x1 conv").build(3, 7, 2)
    assert module(torch.randn(2, 3, 8, 8), torch.randn(2, 7, 4, 4)).shape == (2, 7, 4, 4)


@pytest.mark.parametrize("rescale, at_test, kept", [(False, 0.75, 0.75), (True, 1.0, 4 / 3)])
def test_dropout(signals, rescale, at_test, kept):
    """With p = 0.25: the factor in evaluation, the factor on kept values, and the mean over many draws."""
    x, f = signals
    module = built("dropout", p=0.25, rescale=rescale)
    close(module.eval()(x, f), at_test * x + f)
    ones = torch.ones(200, 5, 20, 20, dtype=torch.float64)
    drawn = module.train()(ones, torch.zeros_like(ones))
    assert drawn.mean().item() == pytest.approx(at_test, abs=0.01)  # what training expects, evaluation gives
    assert (drawn == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    if rescale:
        assert drawn.max().item() == pytest.approx(kept)


def test_dropout_without_rescale_leaves_kept_values_alone():
    ones = torch.ones(4, 4, 8, 8)
    drawn = built("dropout", p=0.5).train()(ones, torch.zeros_like(ones))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("gate", {}, "shortcut must be one of: .*got 'gate'"),
        ("dropout", {}, "'dropout' needs p"),
        ("scaled", {"a": 1}, "'scaled' needs b"),
        ("dropout", {"q": 0.5}, "option of the shortcut 'dropout' must be one of: .*got 'q'"),
    ],
)
def test_mistakes_are_named(kind, options, message):
    with pytest.raises(UsageError, match=message):
        shortcut(kind, **options)


def test_equal_shortcuts_hash_alike():
    assert {shortcut("dropout", p=0.5), shortcut("dropout", p=0.5, rescale=False)} == {shortcut("dropout", p=0.5)}
