"""The data of the book's page on traps are complete, its tables say what they say, and the check tells what it sees."""

import re
import sys
from pathlib import Path
from urllib.error import HTTPError

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
sys.path.insert(0, str(BOOK))

import check_implementations  # noqa: E402
import implementations  # noqa: E402
from implementations import Fact  # noqa: E402

FACTS = implementations.load()
PAGE = (BOOK / "traps.md").read_text(encoding="utf-8")


def fact(**fields):
    made = dict(zip(Fact._fields, ("a/b", "net.py", "0" * 40, "3", "last", "no", "missing", "pool(x)"), strict=True))
    return Fact(**made | fields)


@pytest.mark.parametrize("line", FACTS, ids=lambda line: f"{line.repository}-{line.topic}")
def test_every_line_is_complete(line):
    assert all(isinstance(field, str) and field.strip() == field != "" for field in line)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", line.repository)
    assert re.fullmatch(r"[0-9a-f]{40}", line.commit)
    assert line.trap == "none" or int(line.trap) in range(1, 18)
    assert line.as_paper in implementations.MARKS
    assert 8 <= len(line.evidence) <= 110 and "`" not in line.evidence
    assert not line.statement.endswith(".")


def test_no_statement_stands_twice():
    assert len(set(FACTS)) == len(FACTS)


def test_a_topic_belongs_to_one_trap():
    traps = {}
    for line in FACTS:
        assert traps.setdefault(line.topic, line.trap) == line.trap


def test_every_topic_is_on_the_page_under_its_traps_heading():
    for topic, trap in {(line.topic, line.trap) for line in FACTS}:
        section, heading = PAGE.split(f'differing("{topic}")')[0].rsplit("\n### ", 1)[-1], f"{trap}. "
        assert f'differing("{topic}")' in PAGE
        assert section.startswith(heading) or trap == "none" and not section[0].isdigit(), topic


def test_all_seventeen_traps_have_a_section():
    assert [int(n) for n in re.findall(r"^### (\d+)\. ", PAGE, re.M)] == list(range(1, 18))


def test_overview_shows_each_mark_once_and_what_was_not_read():
    facts = [
        fact(),
        fact(file="again.py"),
        fact(as_paper="yes", file="good.py"),
        fact(repository="c/d", topic="stride", trap="7", as_paper="yes"),
    ]
    head, _, first, second = implementations.overview(facts, ["last", "stride"]).splitlines()
    assert head == "| repository | 3 last | 7 stride |"
    blob = f"https://github.com/a/b/blob/{'0' * 40}"
    assert first.endswith(f"| [✓]({blob}/good.py) [✗]({blob}/net.py) | – |")
    assert "| – | [✓](" in second


def test_list_names_what_differs_and_counts_the_rest():
    text = implementations.listed([fact(), fact(repository="c/d", as_paper="yes")], "last")
    assert "Read in 2 repositories; as in the paper in 1." in text
    assert "a/b, net.py" in text and "missing. `pool(x)`" in text and "c/d" not in text


def test_check_sees_evidence_across_lines_and_misses_what_is_not_there():
    text = "x = layer(x)\n    x =   pool(x)\n"
    seen = check_implementations.check([fact(evidence="layer(x) x = pool(x)"), fact(evidence="bn(x)")], lambda _: text)
    assert [outcome for _, outcome in seen] == ["seen", "not seen"]


def test_check_says_what_could_not_be_fetched_and_goes_on():
    def fetch(line):
        if line.file == "gone.py":
            raise HTTPError("https://example.invalid", 404, "Not Found", None, None)
        return "pool(x)"

    seen = check_implementations.check([fact(file="gone.py"), fact()], fetch)
    assert [outcome for _, outcome in seen] == ["not fetched: HTTP Error 404: Not Found", "seen"]


def test_check_fetches_each_file_once():
    asked = []
    facts = [fact(), fact(evidence="other"), fact(commit="1" * 40)]
    list(check_implementations.check(facts, lambda line: asked.append(line) or ""))
    assert len(asked) == 2


@pytest.mark.parametrize(("text", "status"), [("pool(x)", 0), ("", 1)])
def test_the_scripts_exit_status(capsys, text, status):
    assert check_implementations.main([fact()], lambda _: text) == status
    assert capsys.readouterr().out.splitlines()[-1] == f"1 {'seen' if text else 'not seen'}"
