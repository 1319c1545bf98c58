"""What a row is: one result, the paper's or a study's, with the recipe that is to give it."""

import re
from dataclasses import dataclass, field

from .protocols import CIFAR, Recipe, Training

FAIL_ABOVE = 20.0  # percent: Table 1 reports "fail" for a test error above it


@dataclass(frozen=True)
class Published:
    """What the paper prints: an error in percent, the median of so many `runs`, or a failure.

    mean, std: over the runs, where given. top5: the top-5 error, which Table 5 has beside the top-1 error.
    """

    error: float | None
    mean: float | None = None
    std: float | None = None
    top5: float | None = None
    runs: int = 5

    @property
    def fails(self):
        return self.error is None

    def __str__(self):
        if self.fails:
            return "fail"
        if self.top5 is not None:
            return f"{self.error:.1f} / {self.top5:.1f}"
        return f"{self.error:.2f}" + ("" if self.mean is None else f" ({self.mean:.2f} ± {self.std:.2f})")


FAIL = Published(None)


@dataclass(frozen=True)
class Row:
    """One printed result, or one setting of a study.

    table: the number of the paper's table, or a study's name. case, remark: the paper's words, or ours for a study.
    networks: its specs by variant; the one row that sums up several settings has several, every other has one
    under "". folds: for a search, as `Recipe.folds`. baseline: the row it is compared with, None for a baseline itself.
    claim: what the paper says of the two: this row "fails", or is "worse", "better", or "near". crop: on ImageNet, the
    test of the protocol's that the row is of; "" where there is one test only.
    """

    table: int | str
    id: str
    case: str
    figure: str
    published: Published | None
    networks: dict = field(hash=False)
    dataset: str = "cifar10"
    protocol: Training = CIFAR
    folds: int | None = None
    on_shortcut: str = ""
    on_residual: str = ""
    remark: str = ""
    baseline: str | None = None
    claim: str | None = None
    crop: str = ""

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

    def errors(self, record):
        """(top-1, top-5) error in percent of a record of one of the row's runs; top-5 None where it is not taken."""
        if not self.crop or record["test_error"] is None:
            return record["test_error"], None
        found = record["crops"][self.crop]
        return found["top1"], found["top5"]

    def tested(self, record):
        """The record with the test error of the row's crop, for a recipe that is tested at several."""
        return record | {"test_error": self.errors(record)[0]}


def _typeset(bias):
    first, last = bias.groups()
    return f"$b_g = {first}$" + (f" to ${last}$" if last else "")
