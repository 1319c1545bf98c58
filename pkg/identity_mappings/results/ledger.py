"""The claims ledger: what the records say of each of the paper's claims (`claims`), or a computation does.

Only runs of the paper's own protocol decide a claim: "holds" or "differs". A smaller tier says what was seen in it, and
of how many runs.
"""

import math
import statistics
from dataclasses import dataclass
from functools import lru_cache

from ..experiments import paper
from ..experiments.protocols import Reduction
from ..experiments.rows import FAIL_ABOVE
from . import grids, records
from .claims import CLAIMS
from .statistics import NEARNESS, RESOLUTION, interval, seen_or_not


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


def claim_verdict(claim, tier, reduction=Reduction(), results=None):
    """The Verdict of all comparisons of a claim together in one tier."""
    each = [verdict(comparison, tier, reduction, results) for comparison in claim.comparisons]
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


def claim_verdicts(claim, results=None):
    """{"paper tier": the Verdict of a claim, and that of each smaller tier and reduction in which anything was run}."""
    found = {"paper tier": claim_verdict(claim, "paper", results=results)}
    rows = [paper.rows(each.table, [each.row])[0] for each in claim.comparisons]
    summaries = dict.fromkeys(each.quantity.summary for each in claim.comparisons)
    for tier, cut in records.settings(rows, results, lambda *of: any(summary(*of).n for summary in summaries)):
        if tier == "paper" or (claim.of_depth and cut.depth):
            continue
        one = claim_verdict(claim, tier, cut, results)
        if one != NOT_RUN:
            found[f"{tier} tier" + (f" at {cut}" if cut.name else "")] = one
    return found


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
    for tier, one in claim_verdicts(claim, results).items():
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
            words.append(claim_verdict(claim, "paper", results=results).word)
    kinds = {
        "holds": "hold",
        "differs": "differ",
        "underpowered": "have too few runs",
        "not yet run": "are not yet run",
    }
    counts = ", ".join(f"{words.count(word)} {kind}" for word, kind in kinds.items())
    return f"Of {len(CLAIMS)} claims, {counts}."
