"""What a row is: one result, the paper's or a study's, with the recipe that is to give it."""

import re
from dataclasses import dataclass, field

from .protocols import CIFAR, Protocol, Recipe

FAIL_ABOVE = 20.0  # percent: Table 1 reports "fail" for a test error above it


@dataclass(frozen=True)
class Published:
    """What the paper prints: an error in percent (its median of 5 runs), mean and std where given, or a failure."""

    error: float | None
    mean: float | None = None
    std: float | None = None

    @property
    def fails(self):
        return self.error is None

    def __str__(self):
        if self.fails:
            return "fail"
        return f"{self.error:.2f}" + ("" if self.mean is None else f" ({self.mean:.2f} ± {self.std:.2f})")


FAIL = Published(None)


@dataclass(frozen=True)
class Row:
    """One printed result, or one setting of a study.

    table: the number of the paper's table, or a study's name. case, remark: the paper's words, or ours for a study.
    networks: its specs by variant; the one row that sums up several settings has several, every other has one
    under "". folds: for a search, as `Recipe.folds`. baseline: the row it is compared with, None for a baseline itself.
    claim: what the paper says of the two: this row "fails", or is "worse", "better", or "near".
    """

    table: int | str
    id: str
    case: str
    figure: str
    published: Published | None
    networks: dict = field(hash=False)
    dataset: str = "cifar10"
    protocol: Protocol = CIFAR
    folds: int | None = None
    on_shortcut: str = ""
    on_residual: str = ""
    remark: str = ""
    baseline: str | None = None
    claim: str | None = None

    def name(self, variant=""):
        """The row in the paper's words, as Markdown: "exclusive gating (init $b_g = -6$)"; a variant by its bias."""
        words = self.case
        if self.baseline and re.fullmatch(r"[\d.]+", self.on_shortcut):
            words += f", {self.on_shortcut} on the shortcut and {self.on_residual} on F"
        remark = re.sub(r"^bias-", "init b_g = -", variant).replace("= -0", "= 0") or self.remark
        remark = remark.replace("This is", "this is")
        words += f" ({remark})" if remark else ""
        return re.sub(r"b_g = (-?\d+)(?: to (-\d+))?", _typeset, words)

    def plain_name(self, variant=""):
        """The same where no Markdown is read: in texts for the blind, in CSV files."""
        return self.name(variant).replace("$", "")

    def recipe(self, variant=""):
        """The paper's recipe of one of the row's networks."""
        return Recipe(self.dataset, self.networks[variant], self.protocol, self.folds)


def _typeset(bias):
    first, last = bias.groups()
    return f"$b_g = {first}$" + (f" to ${last}$" if last else "")
