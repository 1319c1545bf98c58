"""Sections 2 and 3 of the paper in numbers: a stack of this library's units, and both sides of Eqs. 4 to 8 on it.

All is in double precision. A stack is one stage, in which no unit changes the signal's shape: there, as the paper's
first footnote says, the equations hold as they are printed.
"""

from typing import NamedTuple

import torch
from torch import nn

from ..nets.counts import count
from ..nets.networks import cifar_spec, initialise
from ..nets.orders import order
from ..nets.shortcuts import Shortcut, shortcut
from ..nets.units import Conv, ResidualUnit

TOLERANCE = 1e-10  # relative; double precision leaves some 1e-13 after fifty units


def stack(units, name="full pre-activation", shortcut=Shortcut(), channels=8, kernel=3, seed=0):
    """`units` Residual Units of two weight layers, one after the other, with the paper's initial weights."""
    convs = [Conv(kernel, channels), Conv(kernel, channels)]
    made = nn.Sequential(*[ResidualUnit(channels, convs, order(name), shortcut) for _ in range(units)])
    return initialise(made, torch.Generator().manual_seed(seed)).double()


def signal(images=4, channels=8, side=6, seed=1):
    """A random x_0 (images, channels, side, side), non-negative as a signal is after the stem's ReLU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, channels, side, side, generator=generator, dtype=torch.float64).relu()


class Path(NamedTuple):
    """A signal's way through a stack: x_0 ... x_L, and F(x_0) ... F(x_{L-1})."""

    x: list
    f: list


def path(units, x):
    """Send x through a stack, unit by unit, and keep what Eqs. 1 and 2 name."""
    signals, residuals = [x], []
    for unit in units:
        f = unit.residual(x)
        x = unit.after(unit.shortcut(x, f))  # Eqs. 1 and 2
        signals.append(x)
        residuals.append(f)
    return Path(signals, residuals)


def loss(x):
    """Some E(x_L): the equations hold for any."""
    return x.mean((2, 3)).logsumexp(1).sum()


def gradient(of, at, weights=None):
    """d`of`/d`at`; with `weights`, the shape of `of`, those of the sum that is differentiated."""
    return torch.autograd.grad(of, at, weights, retain_graph=True)[0]


def gap(one, other):
    """The distance of two tensors, relative to their size."""
    return float((one.detach() - other.detach()).norm() / other.detach().norm())


def holds(what, one, other, tolerance=1e-12):
    """A sentence that says how closely the two sides of `what` agree; AssertionError where they do not."""
    found = gap(one, other)
    assert found <= tolerance, f"{what} must hold to {tolerance:.0e}; its sides are {found:.1e} apart"
    return f"{what} holds to {found:.0e}." if found else f"{what} holds to the last bit."


def cosine(one, other):
    """Of the angle between two tensors of one shape: 1 where they point the same way, 0 where they have no relation."""
    return float((one * other).sum() / one.norm() / other.norm())


def size(x):
    """Root mean square."""
    return float(x.detach().pow(2).mean().sqrt())


def terms(path, factor=1.0):
    """The norms of Eq. 5's two terms at each unit, or with a factor of Eq. 8's, and of their sum: {name: values}."""
    x, f = path
    end, units = gradient(loss(x[-1]), x[-1]), len(f)
    norms = {"direct": [], "through the weights": [], "the gradient": []}
    for at in range(units):
        hatted = sum(factor ** (units - 1 - i) * f[i] for i in range(at, units))
        parts = factor ** (units - at) * end, gradient(hatted, x[at], end)
        for values, part in zip(norms.values(), (*parts, sum(parts)), strict=True):
            values.append(float(part.norm()))
    return norms


# --- what the claims ledger asks of them; each gives the largest relative error of what must be equal


def direct_both_ways(units=20):
    """Eq. 4 and Eq. 5 between every unit l and the last: the sum, and the gradient's two terms."""
    x, f = path(stack(units), signal().requires_grad_())
    end = gradient(loss(x[-1]), x[-1])
    errors = []
    for l in range(units):  # noqa: E741  (the paper's letter)
        total = torch.stack(f[l:]).sum(0)
        errors.append(gap(x[l] + total, x[-1]))
        errors.append(gap(end + gradient(total, x[l], end), gradient(loss(x[-1]), x[l])))
    return max(errors)


def plain_multiplies(units=20, channels=8):
    """Of a plain net without BN and ReLU: the signal is the product of its weights times x_0."""
    convs = [unit.residual[place] for unit in stack(units, "original", channels=channels, kernel=1) for place in (0, 3)]
    x = start = signal()
    product = torch.eye(channels, dtype=torch.float64)
    for conv in convs:
        x = conv(x)
        product = conv.weight[:, :, 0, 0] @ product
    return gap(x, torch.einsum("dc,nchw->ndhw", product, start))


def small_weights(scale=1e-6, units=20):
    """The norm of dE/dx_0 relative to dE/dx_L with tiny weights: with the identity shortcut, and in a plain net."""
    ratios = []
    for kind in (Shortcut(), shortcut("scaled", a=0, b=1)):
        made = stack(units, shortcut=kind)
        for unit in made:
            unit.residual[-1].weight.data.mul_(scale)  # no BN follows this one to undo it
        x, _ = path(made, signal().requires_grad_())
        ratios.append(float(gradient(loss(x[-1]), x[0]).norm() / gradient(loss(x[-1]), x[-1]).norm()))
    return tuple(ratios)


def scaled_product(factor=0.9, units=20):
    """Eq. 7 and Eq. 8 for h = factor x: both with their product of lambdas, from the first unit to the last."""
    x, f = path(stack(units, shortcut=shortcut("scaled", a=factor, b=1)), signal().requires_grad_())
    hatted = sum(factor ** (units - 1 - i) * each for i, each in enumerate(f))
    end = gradient(loss(x[-1]), x[-1])
    forward = gap(factor**units * x[0] + hatted, x[-1])
    backward = gap(factor**units * end + gradient(hatted, x[0], end), gradient(loss(x[-1]), x[0]))
    return max(forward, backward)


def only_grows(units=20):
    """The smallest increase of any value of the signal over any unit of ReLU before addition: never negative."""
    with torch.no_grad():
        x, _ = path(stack(units, "ReLU before addition"), signal())
    return min(float((later - earlier).min()) for earlier, later in zip(x, x[1:], strict=False))


def cost_of_depth(depths=(29, 56, 110, 164)):
    """How far the multiply-adds of pre-activation bottleneck nets are from a straight line in their depth, relative."""
    costs = [count(bottlenecks(depth)).macs for depth in depths]
    slope = (costs[-1] - costs[0]) / (depths[-1] - depths[0])
    fitted = [costs[0] + slope * (depth - depths[0]) for depth in depths]
    return max(abs(cost - fit) / cost for cost, fit in zip(costs, fitted, strict=True))


def bottlenecks(depth):
    """The specification of a pre-activation bottleneck net of that depth."""
    return cifar_spec(depth, branch="bottleneck", order="full pre-activation")
