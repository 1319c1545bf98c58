"""The claims ledger: what the paper says, one claim a line, and what there is here to say so or not.

A claim rests on comparisons of rows, which the records decide, or on a computation, which is made anew each time it is
asked for. Only runs of the paper's own protocol decide a claim: "holds" or "differs". A smaller tier says what was
seen in it, and of how many runs.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ..analysis import derivations
from ..experiments import paper
from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from . import grids, records, watching
from .statistics import NEARNESS, RESOLUTION, interval, seen_or_not, summarise


@dataclass(frozen=True)
class Quantity:
    """A number of a run: what a comparison compares. `of` gives it from a record, infinite where the run diverged.

    summary: gives a row's records, of its runs or of what was seen in them.
    """

    name: str
    of: Callable
    summary: Callable = summarise


def _at_the_end(record):
    value = record["curve"]["train_loss"][-1]
    return math.inf if record["status"] == "diverged" or value is None else value


def _at_the_start(record):
    """The mean over the first tenth of the iterations, by what was logged in it; the first entry, if that is longer."""
    curve, iterations = record["curve"], record["recipe"]["protocol"]["iterations"]
    logged = zip(curve["iteration"], curve["train_loss"], strict=True)
    early = [loss for at, loss in logged if at <= iterations / 10] or curve["train_loss"][:1]
    return math.inf if None in early else statistics.mean(early)


ERROR = Quantity("test error", lambda record: math.inf if record["status"] == "diverged" else record["test_error"])
FINAL_LOSS = Quantity("training loss at the end", _at_the_end)
EARLY_LOSS = Quantity("training loss in the first tenth", _at_the_start)
TRUNCATED = Quantity("share truncated at the end", watching.share_truncated, watching.seen)


@dataclass(frozen=True)
class Comparison:
    """That `row` is above, below or near `base` in a quantity, or (without `base`) that it fails as Table 1 has it.

    Both are ids of rows of `table`. rest: another (row, base): the claim is then that the distance of the first two
    is above, or below, that of these.
    """

    table: int | str
    row: str
    relation: str  # "above", "below", "near" or "fails"
    base: str | None = None
    quantity: Quantity = ERROR
    rest: tuple | None = None

    def __str__(self):
        if self.relation == "fails":
            return f"`{self.row}` fails"
        other = f"`{self.base}`" + ("" if self.rest is None else " by more than `{}` below `{}`".format(*self.rest))
        measured = "" if self.quantity is ERROR else f" in {self.quantity.name}"
        return f"`{self.row}` {self.relation} {other}{measured}"


@dataclass(frozen=True)
class Verdict:
    """What one tier says: `word` is "holds", "differs", "underpowered", "seen", "not seen" or "not yet run"."""

    word: str
    n: int = 0
    decided: int = 1
    of: int = 1

    def __str__(self):
        if self.word == "not yet run":
            return self.word
        runs = f", n = {self.n}" if self.n else ""
        parts = f", {self.decided} of {self.of} comparisons run" if self.decided < self.of else ""
        return self.word + runs + parts


NOT_RUN = Verdict("not yet run")


def verdict(comparison, tier, reduction=Reduction(), results=None):
    """The Verdict of one comparison in one tier. `n` is the number of runs, of the row that has the fewest."""
    ids = [comparison.row, comparison.base, *(comparison.rest or ())]
    rows = [paper.rows(comparison.table, [id])[0] for id in ids if id is not None]
    found = [comparison.quantity.summary(row, tier, reduction, results) for row in rows]
    n = min(summary.n for summary in found)
    if n == 0:
        return NOT_RUN
    if comparison.relation == "fails":
        failed = found[0].median > FAIL_ABOVE
        return Verdict(("holds" if failed else "differs") if tier == "paper" else seen_or_not(failed), n)
    if tier != "paper":
        return Verdict(seen_or_not(_shows(comparison, found)), n)
    distances = paired(found, comparison.quantity)
    return Verdict(_decided(comparison.relation, distances), n)


def _shows(comparison, found):
    """Whether the medians of runs stand as the comparison says."""
    middle = [statistics.median(map(comparison.quantity.of, summary.records)) for summary in found]
    gap = _less(middle[0], middle[1]) - (_less(middle[2], middle[3]) if len(middle) == 4 else 0.0)
    return {"above": gap > 0, "below": gap < 0, "near": gap <= NEARNESS}[comparison.relation]


def _less(one, other):
    return 0.0 if one == other else one - other  # two diverged runs do not differ


def paired(found, quantity):
    """The distances of two rows (or of two pairs, the second's less) for each seed that all have."""
    by_seed = [{record["seed"]: quantity.of(record) for record in summary.records} for summary in found]
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    gaps = [
        [_less(row[seed], base[seed]) for seed in seeds] for row, base in zip(by_seed[::2], by_seed[1::2], strict=True)
    ]
    return gaps[0] if len(gaps) == 1 else [_less(one, other) for one, other in zip(*gaps, strict=True)]


def _decided(relation, distances):
    """ "holds" or "differs" where the 95 % interval of the mean distance lies on one side; else "underpowered"."""
    if len(distances) < 2:
        return "underpowered"
    if all(math.isinf(distance) and distance > 0 for distance in distances):
        low = high = math.inf
    elif any(not math.isfinite(distance) for distance in distances):
        return "underpowered"
    else:
        mean, half = interval(distances)
        low, high = mean - half, mean + half
    if relation == "near":
        if max(abs(low), abs(high)) <= RESOLUTION:
            return "holds"
        return "differs" if low > RESOLUTION or high < -RESOLUTION else "underpowered"
    low, high = (low, high) if relation == "above" else (-high, -low)
    return "holds" if low > 0 else "differs" if high < 0 else "underpowered"


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

    def verdict(self, tier, reduction=Reduction(), results=None):
        """The Verdict of all its comparisons together in one tier."""
        each = [verdict(comparison, tier, reduction, results) for comparison in self.comparisons]
        run = [one for one in each if one != NOT_RUN]
        if not run:
            return NOT_RUN
        words = [one.word for one in run]
        against = {"differs", "not seen"} & set(words)
        if against:
            word = against.pop()
        elif tier == "paper":  # a claim holds when all that it says does
            word = "holds" if len(run) == len(each) and set(words) == {"holds"} else "underpowered"
        else:
            word = "seen"
        return Verdict(word, min(one.n for one in run), len(run), len(each))

    def verdicts(self, results=None):
        """{"paper tier": its Verdict, and that of each smaller tier and reduction in which anything was run}."""
        found = {"paper tier": self.verdict("paper", results=results)}
        rows = [paper.rows(each.table, [each.row])[0] for each in self.comparisons]
        summaries = dict.fromkeys(each.quantity.summary for each in self.comparisons)
        for tier, cut in records.settings(rows, results, lambda *of: any(summary(*of).n for summary in summaries)):
            if tier == "paper" or (self.of_depth and cut.depth):
                continue
            one = self.verdict(tier, cut, results)
            if one != NOT_RUN:
                found[f"{tier} tier" + (f" at {cut}" if cut.name else "")] = one
        return found


def _all(table, relation, *pairs, quantity=ERROR):
    return tuple(Comparison(table, row, relation, base, quantity) for row, base in pairs)


def _fails(*ids):
    return tuple(Comparison(1, id, "fails") for id in ids)


def _exact(computation):
    """A check that what the computation compares is equal in double precision."""

    def check():
        error = computation()
        return error < derivations.TOLERANCE, f"largest relative error {error:.0e}" if error else "no error at all"

    return check


def _small_weights():
    identity, plain = derivations.small_weights()
    found = f"with weights of 1e-06, the norm reaches unit 0 times {identity:.3f}; in a plain net, times {plain:.0e}"
    return abs(identity - 1) < 1e-3 and plain < 1e-10, found


def _only_grows():
    least = derivations.only_grows()
    return least >= 0, f"no value ever falls: smallest step {least:g}"


_UNITS = ("cifar10-110", "cifar10-110-1layer", "cifar10-164", "cifar10-1001", "cifar100-164", "cifar100-1001")
_PAIRS = tuple((f"{unit}-pre-activation", f"{unit}-original") for unit in _UNITS)

CLAIMS = (
    Claim(
        "direct",
        "2",
        "With identities as shortcut and after the addition, a signal reaches any later unit as itself plus a sum of "
        "residuals, and a gradient any earlier one as itself plus what came through the weights.",
        "[Analysis](analysis.md), Eqs. 4 and 5",
        check=_exact(derivations.direct_both_ways),
    ),
    Claim(
        "plain",
        "2",
        "A plain net multiplies where a residual net adds.",
        "[Analysis](analysis.md)",
        check=_exact(derivations.plain_multiplies),
    ),
    Claim(
        "small-weights",
        "2",
        "The gradient does not vanish, however small the weights.",
        "[Analysis](analysis.md)",
        check=_small_weights,
    ),
    Claim(
        "scaled",
        "3",
        "A factor on each shortcut puts its product over the units before the direct term, both ways.",
        "[Analysis](analysis.md), Eqs. 7 and 8",
        check=_exact(derivations.scaled_product),
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
        _all("gate-bias", "below", *[("bias-6", f"bias-{other}") for other in range(11) if other != 6]),
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
    Claim(
        "optimisation",
        "3.2",
        "Gates and 1x1 convolutions can represent all that identity shortcuts can; that their training loss is higher "
        "shows a problem of optimisation.",
        "[Table 1](table-1.md)",
        _all(1, "above", ("shortcut-gating-0", "original"), ("conv-1x1", "original"), quantity=FINAL_LOSS),
    ),
    Claim("dropout", "3.1", "Dropout on the shortcut fails.", "[Table 1](table-1.md)", _fails("dropout")),
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
        "[Analysis](analysis.md)",
        check=_only_grows,
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
        "[Table 3](table-3.md)",
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
        check=_exact(derivations.cost_of_depth),
    ),
)


@lru_cache
def checked(claim):
    """What the claim's computation gives: (whether it holds, what was found). Made once a process."""
    return claim.check()


def evidence(claim):
    """What the claim rests on, in Markdown: all comparisons where they are few, else their number."""
    if claim.check is not None:
        return f"{claim.page}: computed with this page"
    if claim.missing:
        return f"{claim.page}; needs {claim.missing}"
    few = len(claim.comparisons) <= 2
    return f"{claim.page}: " + (
        "; ".join(map(str, claim.comparisons)) if few else f"{len(claim.comparisons)} comparisons"
    )


def compared():
    """The claims that rest on more comparisons than `evidence` names, each with all of them, as a Markdown list."""
    lines = []
    for claim in CLAIMS:
        if len(claim.comparisons) > 2:
            lines += [f"- {claim.words}", *(f"  - {comparison}" for comparison in claim.comparisons)]
    return "\n".join(lines)


def said(claim, results=None):
    """The claim's verdicts in Markdown, a line a tier; one that a computation decides is computed now."""
    if claim.check is not None:
        holds, found = checked(claim)
        return f"**{'holds' if holds else 'differs'}**: {found}"
    lines = []
    for tier, one in claim.verdicts(results).items():
        shown = f"**{one}**" if one.word in ("holds", "differs") else str(one)
        lines.append(f"{tier}: {shown}")
    return "<br>".join(lines)


def markdown(results=None):
    """The ledger as a Markdown table, in the order of the paper."""
    lines = [(claim.section, claim.words, evidence(claim), said(claim, results)) for claim in CLAIMS]
    return grids.markdown(("section", "claim", "evidence", "verdict"), lines)


def counted(results=None):
    """One sentence: how many claims hold, differ, or are open, in the paper tier or by computation."""
    words = []
    for claim in CLAIMS:
        if claim.check is not None:
            words.append("holds" if checked(claim)[0] else "differs")
        else:
            words.append(claim.verdict("paper", results=results).word)
    kinds = {
        "holds": "hold",
        "differs": "differ",
        "underpowered": "have too few runs",
        "not yet run": "are not yet run",
    }
    counts = ", ".join(f"{words.count(word)} {kind}" for word, kind in kinds.items())
    return f"Of {len(CLAIMS)} claims, {counts}."
