"""Tables, notebooks, pages, captions, README and ledger say the same of the same records, word for word."""

import random
import re

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import figures, readme, show
from identity_mappings.pages.book import landing
from identity_mappings.pages.book import tables as pages
from identity_mappings.results import ledger, records, tables
from identity_mappings.results.claims import CLAIMS
from identity_mappings.results.quantities import ERROR
from identity_mappings.results.verdicts import claimed

TIER = "pocket"
LOSSES = {
    "1": "slow-start",
    "3c": "optimisation",
    "3d": "optimisation",
    "6-left": "bn-after",
    "6-right": "regularisation",
}
VERDICT = re.compile(r"(?:seen|contradicted|undecided|untrained|not run)(?: \([^()]*\))?")
ROWS = [row for table in (1, 2, 3) for row in paper.rows(table)]


@pytest.fixture(params=range(3))
def folder(request, outcome, tmp_path, monkeypatch):
    """Records of one to four seeds of most rows of Tables 1 to 3, of runs that learn, fail or diverge at random."""
    draw = random.Random(request.param)
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    homes = dict.fromkeys(place(row, variant) for row in ROWS for variant in row.networks)
    for row, variant in homes:
        level, failing = draw.uniform(40, 55), draw.choice((0.0, 0.0, 0.1, 1.0) if row.baseline else (0.0, 0.0, 0.3))
        for seed in range(draw.randint(0 if row.baseline else 2, 4)):
            error = draw.gauss(level, 1.0) if draw.random() >= failing else draw.choice((None, 89.5))
            made = outcome(error, "diverged" if error is None else "finished")
            made |= {"device": "a CPU", "versions": {"torch": "3"}, "wall_seconds": 1.0}
            made["curve"] = {column: values * 20 for column, values in made["curve"].items()}
            records.write(Run(row, variant, TIER, seed), made)
    return tmp_path


def verdicts_in(text):
    """The verdicts that a text holds; a sum of several is one."""
    return VERDICT.findall(text)


def lines_of(text, name):
    """What lines of a table say of a name, in Markdown or in plain text."""
    return [line for line in text.splitlines() if re.match(rf"(\| )?{re.escape(name)}( \||  )", line)]


def verdicts_on_losses(name, row):
    """What the ledger says of a figure's row in the claim on its training loss, where the paper makes one."""
    for claim in (claim for claim in CLAIMS if claim.id == LOSSES.get(name)):
        for comparison in claim.comparisons:
            of_it = any(place(other, "") == place(row, "") for other in comparison.rows)
            if of_it and comparison.quantity is not ERROR:
                yield ledger.verdict(comparison, TIER)


def test_everything_says_the_same_of_a_row(folder):
    compared = 0
    for row in (row for row in ROWS if row.claim):
        *_, line = tables.row_lines(row, TIER)
        said = verdicts_in(line.verdict)
        (in_text,) = lines_of(tables.text(row.table, TIER), row.id)
        in_notebook = show.result(row.table, row.id, TIER).data.splitlines()[0]
        assert in_text.endswith(line.verdict)
        assert line.verdict == "not run" or f"Verdict: **{line.verdict}**" in in_notebook
        (paragraph,) = pages.seen(row.table, row.id).data.splitlines()
        if tables.nearest(row):
            on_page = lines_of(pages.table(row.table).data, row.name())[0]
            assert verdicts_in(on_page)[-1:] == verdicts_in(paragraph)[:1] == said
            compared += 1
    assert compared > 5


def test_captions_and_the_readme_repeat_the_tables(folder):
    for name, figure in figures.FIGURES.items():
        (row,) = figure.compared()
        if figure.drawn():
            (line,) = tables.row_lines(row, TIER)
            *losses, error = verdicts_in(show.figure(name).caption)
            assert [error] == verdicts_in(line.verdict)
            assert losses == [str(verdict) for verdict in verdicts_on_losses(name, row)]
    headlines = readme.headlines().splitlines()[2:]
    for (table, id, statement), printed in zip(readme.HEADLINES, headlines, strict=True):
        (row,) = paper.rows(table, [id])
        (line,) = tables.row_lines(row, TIER)
        assert statement in printed
        if tables.nearest(row):
            assert verdicts_in(printed) == verdicts_in(line.verdict) and str(line) in printed
        else:
            assert printed.endswith("| not run |")
    table, id = readme.PICTURE
    (row,) = paper.rows(table, [id])
    if tables.nearest(row):
        (line,) = tables.row_lines(row, TIER)
        assert verdicts_in(readme.picture().alt)[-1:] == verdicts_in(line.verdict)


def test_the_ledger_repeats_the_tables(folder):
    """Each comparison of a claim that is a row's own claim too has the verdict that the row's line has."""
    own, checked = {claimed(row): row for row in ROWS if row.claim}, 0
    for claim in CLAIMS:
        for comparison in claim.comparisons:
            if comparison.quantity is ERROR and comparison in own:
                row = own[comparison]
                line = tables.row_lines(row, TIER)[-1]
                verdict = ledger.verdict(comparison, TIER)
                assert not verdict.n or line.verdict.endswith(str(verdict))
                checked += 1
        if len(claim.comparisons) == 1 and claim.comparisons[0] in own:
            line = tables.row_lines(own[claim.comparisons[0]], TIER)[-1]
            found = ledger.claim_verdicts(claim).get(f"{TIER} tier")
            assert found is None or line.verdict.endswith(str(found))
    assert checked > 15


def test_readme_and_landing_page_count_the_same_rows(folder):
    """A row of six recipes has been run when all six have; Table 1 is one line of both coverages."""
    (in_readme,) = (line for line in readme.coverage().splitlines() if "Table 1," in line)
    (on_page,) = (line for line in landing.coverage().data.splitlines() if "[Table 1]" in line)
    rows, spread = re.search(r"(\d+) rows?, (n = \d+(?: to \d+)?)", in_readme).groups()
    assert f"{rows} ({spread})" in on_page


def test_a_row_of_six_that_is_run_in_part_is_counted_nowhere(outcome, tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    records.write(Run(*place(row, "bias-1"), TIER, 0), outcome(50.0))
    assert "n = " not in readme.coverage() + landing.coverage().data
