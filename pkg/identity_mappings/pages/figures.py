"""The paper's training curves, Figs. 1, 3 and 6: which rows each shows, and what the paper says of it."""

from dataclasses import dataclass

from ..errors import choose
from ..experiments import paper
from ..experiments.protocols import TIERS, Reduction
from ..experiments.runs import place
from ..results import records
from ..results.claims import CLAIMS
from ..results.quantities import EARLY_LOSS, FINAL_LOSS
from ..results.statistics import summarise
from ..training.state import POINTS


def settings(rows, results=None):
    """[(tier, reduction)] in which every one of the rows has a run, nearest to the paper first."""
    found = [
        (tier, cut)
        for tier, cut in records.settings(rows, results)
        if all(records.runs_of(row, tier, cut, results) for row in rows)
    ]
    return sorted(found, key=lambda setting: -[*TIERS].index(setting[0]))  # stable: a tier's own recipe stays first


def sparse(summaries):
    """What curves have too few points to be drawn, in words; "" where all have enough.

    Training enters POINTS or more; records that were made before it did have fewer. A run that diverged had no time to.
    """
    short = {
        f"{summary.row.name(summary.variant)} ({_points(len(record['curve']['iteration']))})"
        for summary in summaries
        for record in summary.records
        if record["status"] == "finished"
        and len(record["curve"]["iteration"]) < min(POINTS, record["recipe"]["protocol"]["iterations"])
    }
    return ", ".join(sorted(short))


def _points(number):
    return f"{number} point" + "s" * (number != 1)


@dataclass(frozen=True)
class Figure:
    """One panel. rows: (table, row id) of each curve, the baseline first. claim: what the paper says of it."""

    name: str
    title: str
    claim: str
    rows: tuple

    def settings(self, results=None):
        """[(tier, reduction)] in which every row of the panel has a run, nearest to the paper first."""
        return settings(self._rows(), results)

    def drawn(self, results=None):
        """Those of its settings in which all curves have enough points to be drawn."""
        return [setting for setting in self.settings(results) if not sparse(self.summaries(*setting, results))]

    def summaries(self, tier, reduction=Reduction(), results=None):
        """The `Summary` of each row."""
        return [summarise(row, tier, reduction, results) for row in self._rows()]

    def compared(self):
        """The rows that the paper compares with the baseline."""
        return self._rows()[1:]

    def losses(self):
        """The ledger's comparisons of the panel's recipes in training loss; the rows may be another table's."""
        homes = {place(row, "") for row in self._rows()}
        return [
            comparison
            for claim in CLAIMS
            for comparison in claim.comparisons
            if comparison.quantity in (EARLY_LOSS, FINAL_LOSS) and {place(row, "") for row in comparison.rows} == homes
        ]

    def _rows(self):
        return [row for table, id in self.rows for row in paper.rows(table, [id])]


def _against_original(*ids):
    return tuple((1, id) for id in ("original", *ids))


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "1",
            "Fig. 1, right: ResNet-1001",
            "The original unit's training error falls very slowly at the start; the pre-activation unit's falls at "
            "once, and ends lower (section 4.2).",
            ((3, "cifar10-1001-original"), (3, "cifar10-1001-pre-activation")),
        ),
        Figure(
            "3a",
            "Fig. 3(a): constant scaling, 0.5 on both paths",
            "The training error is higher than the original's: a shortcut that is scaled down is hard to optimise.",
            _against_original("scaling-0.5-0.5"),
        ),
        Figure(
            "3b",
            "Fig. 3(b): exclusive gating",
            "Even from the best initial bias, -6, the gated network lags far behind.",
            _against_original("exclusive-gating-6"),
        ),
        Figure(
            "3c",
            "Fig. 3(c): shortcut-only gating, initial bias 0",
            "A gate that starts half open ends with a higher training error.",
            _against_original("shortcut-gating-0"),
        ),
        Figure(
            "3d",
            "Fig. 3(d): 1x1 convolution on the shortcut",
            "The network could represent the identity and still ends with a higher training error: the optimisation "
            "is to blame.",
            _against_original("conv-1x1"),
        ),
        Figure(
            "6-left",
            "Fig. 6, left: BN after addition, ResNet-110",
            "The training loss is slow to fall at the start.",
            ((2, "110-original"), (2, "110-bn-after-addition")),
        ),
        Figure(
            "6-right",
            "Fig. 6, right: full pre-activation, ResNet-164",
            "Pre-activation ends with a slightly higher training loss and a lower test error.",
            ((2, "164-original"), (2, "164-full-pre-activation")),
        ),
    )
}


def figure(name):
    """The figure of that name. Raises UsageError for any other."""
    return FIGURES[choose(name, FIGURES, "figure")]
