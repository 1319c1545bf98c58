"""What public implementations do, as read in their files: the data behind the page on traps, and its Markdown.

implementations.csv holds one statement a line:
repository, file, commit     where it was read
trap, topic                  the trap's number on the page ("none": it is not on the list), and a word for it
as_paper                     yes, no, or note (neither: something to know)
statement, evidence          what the file does, and a line of it that says so
"""

import csv
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

CSV = Path(__file__).with_name("implementations.csv")
MARKS = {"yes": "✓", "no": "✗", "note": "•"}
UNREAD = "–"


class Fact(NamedTuple):
    """A line of implementations.csv."""

    repository: str
    file: str
    commit: str
    trap: str
    topic: str
    as_paper: str
    statement: str
    evidence: str

    @property
    def link(self):
        """The file at its commit, to be read."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{quote(self.file)}"


def load(path=CSV):
    """All facts, in the order of the file."""
    with open(path, newline="", encoding="utf-8") as file:
        return [Fact(**line) for line in csv.DictReader(file)]


def overview(facts, topics):
    """A Markdown table with a line for each repository that says something on a topic, and a column for each topic."""
    told = [fact for fact in facts if fact.topic in topics]
    numbers = {fact.topic: f"{fact.trap} " if fact.trap != "none" else "" for fact in told}
    lines = [["repository", *(numbers[topic] + topic for topic in topics)]]
    lines.append(["---", *[":-:"] * len(topics)])
    for repository in dict.fromkeys(fact.repository for fact in told):
        cells = [repository.replace("/", "/\N{ZERO WIDTH SPACE}")]
        for topic in topics:
            found = [fact for fact in told if (fact.repository, fact.topic) == (repository, topic)]
            links = {fact.as_paper: fact.link for fact in reversed(found)}  # of each mark the first
            cells.append(" ".join(f"[{MARKS[mark]}]({links[mark]})" for mark in MARKS if mark in links) or UNREAD)
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(facts, topic):
    """Markdown list of the facts on a topic that are not as in the paper, after a line that counts repositories."""
    told = [fact for fact in facts if fact.topic == topic]
    lines = [
        f"- [{fact.repository}, {fact.file}]({fact.link}): {fact.statement}. `{fact.evidence}`"
        for fact in told
        if fact.as_paper != "yes"
    ]
    agreeing = len({fact.repository for fact in told if fact.as_paper == "yes"})
    read = len({fact.repository for fact in told})
    noted = all(fact.as_paper == "note" for fact in told)
    count = "" if noted else f"Read in {read} repositories; as in the paper in {agreeing or 'none'}. The others:"
    return "\n".join([count, "", *lines])
