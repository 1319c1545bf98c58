"""The self-check: before a run trains a faster way on a device, that way takes an iteration that is known."""

from contextlib import contextmanager, nullcontext

import torch

from ..nets.shortcuts import Dropout
from ..nets.units import ResidualUnit

# How far one way may lie from another, relative, by precision. "unit": of one unit alone, its output and all gradients,
# where other rounding has no depth to grow in. Over a whole net it grows, in the velocity most: at 110 layers to 0.01
# in float32 and to 1 in bf16, seen on a CPU with PyTorch's BN and the compiler's. So velocity is judged in float32
# alone; in two bytes it only must not be another (1.4) or much larger. A gradient of nothing is 1 away. "update": of
# what one and the same gradient changes, in float32 always.
TOLERANCES = {"fp32": {"unit": 1e-3, "update": 1e-3, "loss": 1e-4, "velocity": 0.05, "statistics": 1e-3}}
TOLERANCES |= dict.fromkeys(
    ("bf16", "bf16-skip-fp32", "fp16"), {"unit": 0.05, "update": 1e-3, "loss": 0.02, "velocity": 1.3, "statistics": 0.1}
)


class Disagreement(RuntimeError):
    """A way of taking iterations that does not do what the plain step does; its text says in what, and by how much."""


class Snapshot:
    """The state of a step and of the random stream that it draws from, to go back to."""

    def __init__(self, step):
        self.step = step
        self.tensors = {name: tensor.clone() for name, tensor in step.tensors().items()}
        self.random = _random_state(step.device)

    def restore(self):
        for name, tensor in self.step.tensors().items():
            tensor.copy_(self.tensors[name])
        if self.step.device.type == "cuda":
            torch.cuda.set_rng_state(self.random, self.step.device)
        else:
            torch.set_rng_state(self.random)


def _random_state(device):
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def checked(step, take, uncompiled=nullcontext):
    """How far `take` lies from the plain step, a number for each name of TOLERANCES; the state is as before.

    `step`, in the context `uncompiled`, and `take` take an iteration from the same state; `take` does so twice. Unit:
    the worst of one unit of each kind alone, in that context and out of it; update: likewise, of weights and velocity.
    Velocity: the difference over the part of it that is this iteration's. Statistics: the batch's and the running
    ones, of all BNs. All are relative.
    Raises Disagreement where one is beyond its tolerance, where the two are not equal bit for bit, and where they do
    not count the iteration.
    """
    before = Snapshot(step)

    def plain():
        with uncompiled():
            step()

    try:
        with _met(step) as met:
            expected = _after(step, plain, before)
        first, second = (_after(step, take, before) for _ in range(2))
        units = [_unit_apart(step, unit, x, uncompiled) for unit, x in met.values()]
        update = _update_apart(step, before, uncompiled)
    finally:
        before.restore()
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise Disagreement(f"two replays of one iteration differ in {name}")
    if not torch.equal(first["counter"], expected["counter"]):
        raise Disagreement(f"a replay goes on to iteration {int(first['counter'])}, not {int(expected['counter'])}")
    origin = before.tensors
    found = {
        "unit": max(units),
        "update": update,
        "loss": _apart(first["loss_sum"], expected["loss_sum"], origin["loss_sum"]),
        "velocity": _apart(first["velocity"], expected["velocity"], _slowed(step, before)),
        "statistics": max(_apart(first[name], expected[name]) for name in ("batch", "running")),
    }
    for name, most in TOLERANCES[step.precision].items():
        if not found[name] <= most:  # a nan is no agreement either
            raise Disagreement(
                f"a replay's {name} is {found[name]:.2g} from a plain step's; at most {most:g} is allowed"
            )
    return found


@contextmanager
def _met(step):
    """{kind: (a unit of it, an input that it has met)}, filled by an iteration within."""
    met, units = {}, [module for module in step.network.modules() if isinstance(module, ResidualUnit)]

    def meet(unit, inputs):
        met.setdefault((repr(unit), inputs[0].shape, inputs[0].dtype), (unit, inputs[0].detach().clone()))

    handles = [unit.register_forward_pre_hook(meet) for unit in units]
    try:
        yield met
    finally:
        for handle in handles:
            handle.remove()


def _unit_apart(step, unit, x, uncompiled):
    """The largest relative distance of a unit's output and gradients in `uncompiled` from those out of it."""
    if any(isinstance(module, Dropout) for module in unit.modules()):
        return 0.0  # it draws other numbers each time, and is never compiled

    def taken():
        with step.copies.read(), step.autocast():
            given = x.clone().requires_grad_()
            y = unit(given)
            slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view(y.shape)
            return [y.detach(), *torch.autograd.grad(y, [given, *unit.parameters()], slope.sin_())]

    with uncompiled():
        expected = taken()
    return max(_apart(ours.float(), theirs.float()) for ours, theirs in zip(taken(), expected, strict=True))


@torch.no_grad()
def _update_apart(step, before, uncompiled):
    """The same of the update: of what a gradient of numbers from -1 to 1 changes of weights and velocity."""
    rate = step.rates.index_select(0, step.counter)

    def taken():
        before.restore()
        gradient = torch.linspace(-99, 99, len(step.sgd.weights), device=step.device).sin_()
        step.sgd.update(gradient if step.scale is None else gradient * step.scale.scale, rate, step.scale)
        return step.sgd.weights.clone(), step.sgd.velocity.clone()

    with uncompiled():
        expected = taken()
    origins = before.tensors["weights"], _slowed(step, before)
    return max(map(_apart, taken(), expected, origins))


def _slowed(step, before):
    """What the velocity would be after an iteration without a gradient."""
    return before.tensors["velocity"] * step.sgd.protocol.momentum


def _after(step, action, before):
    """All that an iteration from `before` leaves, as copies."""
    before.restore()
    action()
    left = step.tensors() | {"batch": step.statistics.batch}
    return {name: tensor.clone() for name, tensor in left.items()}


def _apart(ours, theirs, origin=0.0):
    """The norm of the difference over that of `theirs`, both counted from `origin`."""
    return float((ours - theirs).norm() / (theirs - origin).norm().clamp(min=1e-30))
