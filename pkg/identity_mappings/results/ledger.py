"""The claims ledger: what the records say of each of the paper's claims (`claims`), or a computation does.

`verdicts` has the rule that decides. Only runs of the paper's own protocol decide a claim of the paper; a smaller tier
says what is seen in it.
"""

from functools import lru_cache

from .. import grids
from ..experiments.protocols import Reduction
from . import records
from .claims import CLAIMS
from .verdicts import together, verdict


def claim_verdict(claim, tier, reduction=Reduction(), results=None):
    """The Verdict on all comparisons of a claim together in one tier."""
    return together([verdict(comparison, tier, reduction, results) for comparison in claim.comparisons])


def claim_verdicts(claim, results=None):
    """{"paper tier": the Verdict on a claim, and that of each smaller tier and reduction in which it has runs}."""
    found = {"paper tier": claim_verdict(claim, "paper", results=results)}
    rows = [comparison.rows[0] for comparison in claim.comparisons]
    sources = dict.fromkeys(comparison.quantity.summaries for comparison in claim.comparisons)

    def has_runs(*of):
        return any(summary.n for source in sources for summary in source(*of))

    for tier, cut in records.settings(rows, results, has_runs):
        if tier == "paper" or (claim.of_depth and cut.depth):
            continue
        one = claim_verdict(claim, tier, cut, results)
        if one.n:
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
    return "<br>".join(f"{tier}: {one}" for tier, one in claim_verdicts(claim, results).items())


def markdown(results=None):
    """The ledger as a Markdown table, in the order of the paper."""
    lines = [(claim.section, claim.words, evidence(claim), said(claim, results)) for claim in CLAIMS]
    caption = "The paper's claims in its order, each with what decides it and what the runs here say, tier by tier."
    return grids.captioned(caption, ("section", "claim", "evidence", "verdict"), lines)


def counted(results=None):
    """Two sentences: how many claims hold by computation, and what runs of the paper's protocol say of the others."""
    computed = [checked(claim)[0] for claim in CLAIMS if claim.check is not None]
    words = [claim_verdict(claim, "paper", results=results).word for claim in CLAIMS if claim.check is None]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    return (
        f"Of {len(CLAIMS)} claims, {len(computed)} are computed, and {sum(computed)} of these hold. "
        f"Of the other {len(words)}, in the paper tier: {counts}."
    )
