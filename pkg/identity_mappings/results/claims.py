"""What the paper says, one claim a line, in the order of its sections: the ledger's data.

A claim rests on comparisons of rows, which the records decide (`ledger`), or on a computation (`analysis.checks`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..analysis import checks, derivations
from .quantities import EARLY_LOSS, ERROR, FINAL_LOSS, TRUNCATED
from .verdicts import Comparison


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper in our words, its section, and what there is here to hold it against.

    comparisons: of rows; all must hold. check: gives (whether it holds, what was found), computed anew. page: where a
    reader finds the evidence. missing: what would decide the claim and is not here. of_depth: whether it compares
    depths, so that runs reduced to one depth say nothing of it.
    """

    id: str
    section: str
    words: str
    page: str
    comparisons: tuple = ()
    check: Callable | None = None
    missing: str = ""
    of_depth: bool = False


def _all(table, relation, *pairs, quantity=ERROR):
    return tuple(Comparison(table, row, relation, base, quantity) for row, base in pairs)


def _fails(*ids):
    return tuple(Comparison(1, id, "fails", "original") for id in ids)


_UNITS = ("cifar10-110", "cifar10-110-1layer", "cifar10-164", "cifar10-1001", "cifar100-164", "cifar100-1001")
_PAIRS = tuple((f"{unit}-pre-activation", f"{unit}-original") for unit in _UNITS)

CLAIMS = (
    Claim(
        "direct",
        "2",
        "With identities as shortcut and after the addition, a signal reaches any later unit as itself plus a sum of "
        "residuals, and a gradient any earlier one as itself plus what came through the weights.",
        "[Analysis](analysis.md), Eqs. 4 and 5",
        check=checks.exact(derivations.direct_both_ways),
    ),
    Claim(
        "plain",
        "2",
        "A plain net multiplies where a residual net adds.",
        "[Analysis](analysis.md)",
        check=checks.exact(derivations.plain_multiplies),
    ),
    Claim(
        "small-weights",
        "2",
        "The gradient does not vanish, however small the weights.",
        "[Analysis](analysis.md)",
        check=checks.small_weights,
    ),
    Claim(
        "scaled",
        "3",
        "A factor on each shortcut puts its product over the units before the direct term, both ways.",
        "[Analysis](analysis.md), Eqs. 7 and 8",
        check=checks.exact(derivations.scaled_product),
    ),
    Claim(
        "scaling",
        "3.1",
        "Scaling the shortcut by 0.5 fails; with the residual scaled by 0.5 too, the net converges to a worse error.",
        "[Table 1](table-1.md)",
        (*_fails("scaling-0.5-1"), *_all(1, "above", ("scaling-0.5-0.5", "original"))),
    ),
    Claim(
        "gate-bias",
        "3.1",
        "The bias from which an exclusive gate starts is critical: 0 to -5 fail, and -6 does better than -7.",
        "[Table 1](table-1.md)",
        (*_fails("exclusive-gating-0-to-5"), *_all(1, "below", ("exclusive-gating-6", "exclusive-gating-7"))),
    ),
    Claim(
        "gate-search",
        "3.1",
        "Cross-validation on the training set finds -6 best among 0, -1, ..., -10.",
        "[The search](gate-bias.md)",
        _all("gate-bias", "above", *[(f"bias-{other}", "bias-6") for other in range(11) if other != 6]),
    ),
    Claim(
        "exclusive",
        "3.1",
        "Even the best exclusive gate lags behind the baseline.",
        "[Table 1](table-1.md)",
        _all(1, "above", ("exclusive-gating-6", "original")),
    ),
    Claim(
        "shortcut-gate",
        "3.1",
        "A gate on the shortcut only, started at -6, is close to the baseline; started at 0 it is far from it.",
        "[Table 1](table-1.md)",
        (*_all(1, "near", ("shortcut-gating-6", "original")), *_all(1, "above", ("shortcut-gating-0", "original"))),
    ),
    Claim(
        "conv-1x1",
        "3.1",
        "1x1 convolutions as shortcuts hurt at 110 layers.",
        "[Table 1](table-1.md)",
        _all(1, "above", ("conv-1x1", "original")),
    ),
    Claim("dropout", "3.1", "Dropout on the shortcut fails.", "[Table 1](table-1.md)", _fails("dropout")),
    Claim(
        "optimisation",
        "3.2",
        "Gates and 1x1 convolutions can represent all that identity shortcuts can; that their training loss is higher "
        "shows a problem of optimisation.",
        "[Table 1](table-1.md)",
        _all(1, "above", ("shortcut-gating-0", "original"), ("conv-1x1", "original"), quantity=FINAL_LOSS),
    ),
    Claim(
        "bn-after",
        "4.1",
        "BN after the addition hurts, and makes the start of training slow.",
        "[Table 2](table-2.md)",
        (
            *_all(2, "above", *[(f"{depth}-bn-after-addition", f"{depth}-original") for depth in (110, 164)]),
            *_all(2, "above", ("110-bn-after-addition", "110-original"), quantity=EARLY_LOSS),
        ),
    ),
    Claim(
        "relu-before",
        "4.1",
        "ReLU before the addition hurts.",
        "[Table 2](table-2.md)",
        _all(2, "above", *[(f"{depth}-relu-before-addition", f"{depth}-original") for depth in (110, 164)]),
    ),
    Claim(
        "grows",
        "4.1",
        "With ReLU before the addition, the signal can only grow from unit to unit.",
        "[Inside the networks](inside.md)",
        check=checks.only_grows,
    ),
    Claim(
        "relu-only",
        "4.1",
        "ReLU-only pre-activation is about as good as the baseline.",
        "[Table 2](table-2.md)",
        _all(2, "near", *[(f"{depth}-relu-only-pre-activation", f"{depth}-original") for depth in (110, 164)]),
    ),
    Claim(
        "pre-activation",
        "4.1",
        "Full pre-activation is better than the original unit in every net of Table 3.",
        "[Table 3](table-3.md)",
        _all(3, "below", *_PAIRS),
    ),
    Claim(
        "deeper-gains-more",
        "4.1",
        "It gains most at 1001 layers.",
        "[Table 3](table-3.md)",
        tuple(
            Comparison(
                3,
                f"{data}-1001-pre-activation",
                "below",
                f"{data}-1001-original",
                rest=(f"{data}-164-pre-activation", f"{data}-164-original"),
            )
            for data in ("cifar10", "cifar100")
        ),
        of_depth=True,
    ),
    Claim(
        "slow-start",
        "4.2",
        "At 1001 layers the original unit's training loss falls slowly at first, the pre-activation unit's quickly.",
        "[Table 3](table-3.md)",
        _all(3, "above", ("cifar10-1001-original", "cifar10-1001-pre-activation"), quantity=EARLY_LOSS),
        of_depth=True,
    ),
    Claim(
        "truncation",
        "4.2",
        "After some training, the ReLU after the addition truncates less at 164 layers than at 1001.",
        "[Inside the networks](inside.md)",
        _all(3, "below", ("cifar10-164-original", "cifar10-1001-original"), quantity=TRUNCATED),
        of_depth=True,
    ),
    Claim(
        "regularisation",
        "4.2",
        "Pre-activation ends with a slightly higher training loss, and a lower test error.",
        "[Table 3](table-3.md)",
        tuple(
            comparison
            for pair in _PAIRS
            if "1001" not in pair[0]
            for comparison in (*_all(3, "above", pair, quantity=FINAL_LOSS), *_all(3, "below", pair))
        ),
    ),
    Claim(
        "depth",
        "5",
        "Going deeper, from 164 to 1001 pre-activation layers, lowers the error on CIFAR-10 and CIFAR-100.",
        "[Table 3](table-3.md)",
        _all(3, "below", *[(f"{d}-1001-pre-activation", f"{d}-164-pre-activation") for d in ("cifar10", "cifar100")]),
        of_depth=True,
    ),
    Claim(
        "overfitting",
        "5",
        "On ImageNet the original ResNet-200 overfits, and the pre-activation one does not.",
        "[Table 5](table-5.md)",
        missing="ImageNet runs",
    ),
    Claim(
        "cost",
        "5",
        "The cost of a net is linear in its depth.",
        "[Cost](cost.md)",
        check=checks.exact(derivations.cost_of_depth),
    ),
)
