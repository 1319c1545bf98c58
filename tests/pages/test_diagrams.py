"""The figures show what the library builds: their words are read back from the drawing and held against the modules."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from identity_mappings import ORDERS, ResidualUnit, shortcut
from identity_mappings.nets.orders import order
from identity_mappings.nets.shortcuts import KINDS
from identity_mappings.nets.units import Conv
from identity_mappings.pages import diagrams as drawn

NAMES = {nn.Conv2d: "weight", nn.BatchNorm2d: "BN", nn.ReLU: "ReLU"}
CHANNELS = 4


def words(picture, panel, part):
    """The words drawn on a part of a panel, top to bottom, with the heights falling."""
    pattern = re.compile(rf"{panel}-{part}-(\d+)")
    texts = {}
    for axis in picture.figure.axes:
        for text in axis.texts:
            if text.get_gid() and (match := pattern.fullmatch(text.get_gid())):
                texts[int(match[1])] = (text.get_position()[1], text.get_text())
    heights = [texts[place][0] for place in sorted(texts)]
    assert heights == sorted(heights, reverse=True)
    return [texts[place][1] for place in sorted(texts)]


def built(modules):
    return [next(name for kind, name in NAMES.items() if isinstance(module, kind)) for module in modules]


def unit(order_, shortcut_):
    return ResidualUnit(CHANNELS, [Conv(3, CHANNELS), Conv(3, CHANNELS)], order_, shortcut_).double()


@pytest.mark.parametrize("place, name", list(enumerate(list(ORDERS)[:5])))
def test_figure_4_shows_the_modules_of_each_order(place, name):
    module = unit(order(name), shortcut())
    picture = drawn.figure_4()
    assert words(picture, f"fig4-{place}", "residual") == built(module.residual)
    assert words(picture, f"fig4-{place}", "after") == built(module.after)
    assert words(picture, f"fig4-{place}", "path") == []


@pytest.mark.parametrize("place, name", list(enumerate(["original", "full pre-activation"])))
def test_figure_1_shows_the_modules_of_both_units(place, name):
    module = unit(order(name), shortcut())
    assert words(drawn.figure_1(), f"fig1-{place}", "residual") == built(module.residual)
    assert words(drawn.figure_1(), f"fig1-{place}", "after") == built(module.after)


def test_figure_2_leaves_out_bn_and_nothing_else():
    module = unit(order("original"), shortcut())
    for place in range(6):
        residual = words(drawn.figure_2(), f"fig2-{place}", "residual")
        assert residual == [word for word in built(module.residual) if word != "BN"]
        assert words(drawn.figure_2(), f"fig2-{place}", "after") == built(module.after)


def test_figure_2_draws_each_of_the_papers_shortcuts_once():
    assert [each.kind for each in drawn.FIGURE_2.values()] == list(drawn.ON_SHORTCUT) == list(KINDS)[:6]


def carried_out(path, signal, module, g):
    """What the words on a path do to a signal, as a reader would take them."""
    for word in path:
        if word == "1x1 conv":
            signal = F.conv2d(signal, module.conv.weight)
        elif word == "BN":
            mean, variance = signal.mean((0, 2, 3), keepdim=True), signal.var((0, 2, 3), correction=0, keepdim=True)
            signal = (signal - mean) / (variance + 1e-5).sqrt()
        elif match := re.fullmatch(r"dropout (\S+)", word):  # in evaluation: its expectation
            signal = signal * (1 - float(match[1]))
        elif word in ("× g", "× (1 - g)"):
            signal = signal * (g if word == "× g" else 1 - g)
        elif match := re.fullmatch(r"× (\S+)", word):
            signal = signal * float(match[1])
        else:
            raise AssertionError(f"no reader knows {word!r}")
    return signal


@pytest.mark.parametrize(
    "each",
    [
        *drawn.FIGURE_2.values(),
        shortcut("scaled", a=0, b=1),
        shortcut("scaled", a=0.5, b=1),
        shortcut("dropout", p=0.2),
    ],
    ids=str,
)
def test_the_words_on_a_shortcut_do_what_its_module_does(each):
    torch.manual_seed(0)
    x, f = torch.randn(2, 5, CHANNELS, 3, 3, dtype=torch.float64)
    module = each.build(CHANNELS, CHANNELS, 1).double()
    sketch = drawn.sketch("", order("original"), each)
    module.train("BN" in sketch.path)  # BN by the batch; dropout by its expectation
    g = None
    if sketch.gate:
        assert sketch.gate == ("1x1 conv", "sigmoid")
        gate = module.gate.conv
        g = 1 / (1 + torch.exp(-F.conv2d(x, gate.weight, gate.bias)))
    branch = carried_out(sketch.gain, f, module, g)
    expected = branch + carried_out(sketch.path, x, module, g) if sketch.connected else branch
    torch.testing.assert_close(module(x, f), expected)


def test_a_gate_with_bn_is_drawn_with_it():
    each = shortcut("shortcut-only gate", bias=-6, bn=True)
    assert drawn.sketch("", order("original"), each).gate == ("1x1 conv", "BN", "sigmoid")


@pytest.mark.parametrize(
    "post, pre", [("BN after addition", "full pre-activation"), ("original", "ReLU-only pre-activation")]
)
def test_figure_5_turns_one_order_into_another(post, pre):
    left, right = unit(order(post), shortcut()), unit(order(pre), shortcut())
    picture = drawn.figure_5(post)
    for repeat in range(2):
        assert words(picture, f"fig5-0-{repeat}", "residual") == built(left.residual)
        assert words(picture, f"fig5-0-{repeat}", "after") == built(left.after)
        for place in (1, 2):
            assert words(picture, f"fig5-{place}-{repeat}", "residual") == built(right.residual)
            assert words(picture, f"fig5-{place}-{repeat}", "after") == built(right.after) == []


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_pictures_for_screen_print_and_ear(number):
    bundle = getattr(drawn, f"figure_{number}")()._repr_mimebundle_()
    page = bundle["text/html"]
    assert page.count("<svg") == 1 and 'role="img"' in page
    assert "currentColor" in page and "#000000" not in page and "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert f"Fig. {number}" in bundle["text/plain"] and 'aria-label="Fig.' in page
    assert bundle["image/png"]
