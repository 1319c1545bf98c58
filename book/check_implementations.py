"""Look up every statement of implementations.csv where it was read, and say whether its evidence is there.

    python book/check_implementations.py        needs a network; exits with 1 unless all evidence is seen

Each file is fetched once, at its commit, from raw.githubusercontent.com. Runs of white space count as one space.
"""

import sys
from collections import Counter
from urllib.parse import quote
from urllib.request import urlopen

from implementations import load


def fetch(fact):
    """The text of the fact's file at its commit; OSError where it cannot be had."""
    url = f"https://raw.githubusercontent.com/{fact.repository}/{fact.commit}/{quote(fact.file)}"
    with urlopen(url, timeout=30) as answer:
        return answer.read().decode("utf-8", errors="replace")


def check(facts, fetch=fetch):
    """Yield each fact with "seen", "not seen" or, where its file did not come, "not fetched: " and the reason."""
    texts = {}
    for fact in facts:
        place = (fact.repository, fact.commit, fact.file)
        if place not in texts:
            try:
                texts[place] = " ".join(fetch(fact).split())
            except OSError as error:  # urllib's errors are among them
                texts[place] = error
        text = texts[place]
        if isinstance(text, OSError):
            yield fact, f"not fetched: {text}"
        else:
            yield fact, "seen" if " ".join(fact.evidence.split()) in text else "not seen"


def main(facts, fetch=fetch):
    """Print each outcome and their counts; the exit status."""
    counts = Counter()
    for fact, outcome in check(facts, fetch):
        counts[outcome.partition(":")[0]] += 1
        print(f"{outcome}  {fact.repository}/{fact.file}  {fact.evidence}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 0 if set(counts) == {"seen"} else 1


if __name__ == "__main__":
    sys.exit(main(load()))
