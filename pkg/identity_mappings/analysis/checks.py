"""Whether the paper's exact statements hold here: each check gives (whether it does, what was found), computed anew."""

from . import derivations


def exact(computation):
    """The check that what a computation of `derivations` compares is equal in double precision."""

    def check():
        error = computation()
        return error < derivations.TOLERANCE, f"largest relative error {error:.0e}" if error else "no error at all"

    return check


def small_weights():
    """The gradient does not vanish where weights are small, as it does in a plain net."""
    identity, plain = derivations.small_weights()
    found = f"with weights of 1e-06, the norm reaches unit 0 times {identity:.3f}; in a plain net, times {plain:.0e}"
    return abs(identity - 1) < 1e-3 and plain < 1e-10, found


def only_grows():
    """With ReLU before the addition no value of the signal ever falls."""
    least = derivations.only_grows()
    return least >= 0, f"no value ever falls: smallest step {least:g}"
