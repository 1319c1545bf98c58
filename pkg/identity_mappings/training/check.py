"""The self-check: before a run trains a faster way on a device, that way takes an iteration that is known."""

import torch

# How far a replay may lie from a plain step, relative, by precision. Compiled units round at other places, and a deep
# net carries that on: each is several times what was seen on a CPU (see the trainer page), and far below what a wrong
# address, a stale weight or a lost statistic does.
TOLERANCES = {
    "fp32": {"loss": 1e-4, "velocity": 0.02, "statistics": 1e-3},
    "bf16": {"loss": 0.02, "velocity": 0.5, "statistics": 0.1},
}
TOLERANCES |= dict.fromkeys(("bf16-skip-fp32", "fp16"), TOLERANCES["bf16"])


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


def checked(step, plain, take):
    """How far `take` lies from the plain step: {"loss", "velocity", "statistics"}, relative; the state is as before.

    `plain` and `take` each take an iteration of `step`, from the same state; `take` takes it twice. Velocity: the
    difference over the part of it that is this iteration's. Statistics: the batch's, of all BNs.
    Raises Disagreement where one is beyond its tolerance, and where the two are not equal bit for bit.
    """
    before = Snapshot(step)
    try:
        expected, first, second = (_after(step, action, before) for action in (plain, take, take))
    finally:
        before.restore()
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise Disagreement(f"two replays of one iteration differ in {name}")
    velocity = before.tensors["velocity"] * step.sgd.protocol.momentum
    found = {
        "loss": _apart(first["loss_sum"], expected["loss_sum"], before.tensors["loss_sum"]),
        "velocity": _apart(first["velocity"], expected["velocity"], velocity),
        "statistics": _apart(first["batch"], expected["batch"]),
    }
    for name, most in TOLERANCES[step.precision].items():
        if not found[name] <= most:  # a nan is no agreement either
            raise Disagreement(
                f"a replay's {name} is {found[name]:.2g} from a plain step's; at most {most:g} is allowed"
            )
    return found


def _after(step, action, before):
    """All that an iteration from `before` leaves, as copies."""
    before.restore()
    action()
    left = step.tensors() | {"batch": step.statistics.batch}
    return {name: tensor.clone() for name, tensor in left.items()}


def _apart(ours, theirs, origin=0.0):
    """The norm of the difference over that of `theirs`, both counted from `origin`."""
    return float((ours - theirs).norm() / (theirs - origin).norm().clamp(min=1e-30))
