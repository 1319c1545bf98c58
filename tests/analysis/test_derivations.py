"""Eqs. 4 to 8: the library's two sides against a third one, finite differences or a loop written out."""

import pytest
import torch

from identity_mappings import shortcut
from identity_mappings.analysis import derivations as d


def test_a_path_is_what_the_stack_gives():
    units, x = d.stack(5), d.signal()
    found = d.path(units, x)
    assert torch.equal(found.x[-1], units(x))
    assert len(found.x) == len(found.f) + 1 == 6
    assert found.x[0] is x and x.dtype == torch.float64 and (x >= 0).all()


def test_gradient_is_the_slope():
    units, x = d.stack(3), d.signal().requires_grad_()
    slope = d.gradient(d.loss(units(x)), x)
    step = torch.zeros_like(x)
    step[1, 2, 3, 4] = 1e-6
    with torch.no_grad():
        difference = (d.loss(units(x + step)) - d.loss(units(x - step))) / 2e-6
    assert slope[1, 2, 3, 4].item() == pytest.approx(difference.item(), rel=1e-5)


@pytest.mark.parametrize("units", [1, 7])
def test_equations_hold_for_any_number_of_units(units):
    assert d.direct_both_ways(units) < d.TOLERANCE
    assert d.plain_multiplies(units) < d.TOLERANCE
    assert d.scaled_product(1.1, units) < d.TOLERANCE


def test_equation_4_does_not_hold_where_f_is_a_relu():
    x, f = d.path(d.stack(5, "original"), d.signal())
    assert d.gap(x[0] + sum(f), x[-1]) > 0.01


def test_equation_7_needs_its_product():
    x, f = d.path(d.stack(5, shortcut=shortcut("scaled", a=0.9, b=1)), d.signal())
    assert d.gap(x[0] + sum(f), x[-1]) > 0.01


def test_tiny_weights_and_the_gradient():
    identity, plain = d.small_weights(1e-8)
    assert identity == pytest.approx(1.0, abs=1e-6)
    assert plain < 1e-20


def test_relu_before_addition_is_the_order_that_only_grows():
    assert d.only_grows() >= 0
    x, _ = d.path(d.stack(5, "full pre-activation"), d.signal())
    assert any((later < earlier).any() for earlier, later in zip(x, x[1:], strict=False))


def test_cost_of_depth_is_a_line_through_what_units_cost():
    assert d.cost_of_depth() == 0
    # one more unit in each of three stages: 1x1, 3x3, 1x1 of widths 16, 32, 64 on maps of 32, 16 and 8
    unit = sum((4 * w * w + 9 * w * w + 4 * w * w) * (32 * 16 // w) ** 2 for w in (16, 32, 64))
    costs = [d.count(d.bottlenecks(depth)).macs for depth in (29, 38)]
    assert costs[1] - costs[0] == unit
