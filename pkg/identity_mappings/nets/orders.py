"""The five orders of activation of Fig. 4, as data.

A plain network is the endless chain of words `conv bn relu conv bn relu ...`. A Residual Unit is a stretch of
that chain with a shortcut around a part of it. Where the shortcut leaves (`split`, the first word of the residual
branch) and where it comes back (`join`, the branch's last word) is all that tells the units of Fig. 4 apart:
no component is added or dropped, and nothing else in this library asks which order it is building.
"""

from dataclasses import dataclass

from ..errors import choose

CHAIN = ("conv", "bn", "relu")


def _between(start, stop):
    """The words of the endless chain from `start` up to, not including, the next `stop`."""
    words, position = [], CHAIN.index(start)
    while CHAIN[position % 3] != stop:
        words.append(CHAIN[position % 3])
        position += 1
    return tuple(words)


@dataclass(frozen=True)
class Order:
    """One column of Fig. 4: where in the chain the shortcut leaves and where it comes back."""

    name: str
    figure: str
    split: str
    join: str

    @property
    def lead(self):
        """Words between the split and the branch's first conv: the pre-activation."""
        return _between(self.split, "conv")

    @property
    def closing(self):
        """Words from the branch's last conv, included, to the addition."""
        return CHAIN[: CHAIN.index(self.join) + 1]

    @property
    def after(self):
        """Words between the addition and the next unit's split: f of Eq. 2, the identity where empty."""
        following = CHAIN[(CHAIN.index(self.join) + 1) % 3]
        return _between(following, self.split)

    @property
    def projection(self):
        """Words of a projection shortcut: a conv, and BN after it where BN follows the branch's last conv."""
        return self.closing[:2]

    def residual(self, convs):
        """The branch's words with `convs` weight layers, from the split to the join."""
        return self.lead + CHAIN * (convs - 1) + self.closing


ORDERS = {
    order.name: order
    for order in (
        Order("original", "Fig. 4(a)", split="conv", join="bn"),
        Order("BN after addition", "Fig. 4(b)", split="conv", join="conv"),
        Order("ReLU before addition", "Fig. 4(c)", split="conv", join="relu"),
        Order("ReLU-only pre-activation", "Fig. 4(d)", split="relu", join="bn"),
        Order("full pre-activation", "Fig. 4(e)", split="bn", join="conv"),
    )
}


def order(name):
    """The order of that name (as Table 2 spells it). Raises UsageError for any other."""
    return ORDERS[choose(name, ORDERS, "order")]
