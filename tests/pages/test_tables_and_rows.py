"""The tables' pages and the rows' pages, from few records, many and none: words for ids, links to the record."""

import re
from pathlib import Path

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import show
from identity_mappings.pages.book import evidence, rows
from identity_mappings.pages.book import tables as pages
from identity_mappings.results import records, tables

IDS = {row.id for table in paper.TABLES for row in paper.rows(table)}
PLAIN_WORDS = {"original", "plain", "dropout"}  # ids that are the paper's own words as well
CODED = IDS - PLAIN_WORDS


@pytest.fixture
def ran(tmp_path, outcome):
    """Writes records: ran(table, id, tier, errors, reduction, step). Errors rise by step from setting to setting."""

    def write(table, id, tier, errors, reduction=Reduction(), step=0.0):
        (row,) = paper.rows(table, [id])
        for position, variant in enumerate(row.networks):
            for seed, error in enumerate(errors):
                made = outcome(error + step * position) | {
                    "device": "a CPU", "threads": 1, "wall_seconds": 100.0, "device_seconds": 90.0,
                    "versions": {"torch": "2.6.0"},
                }  # fmt: skip
                made["curve"] = {key: [value[0]] * 20 for key, value in made["curve"].items()}
                made["curve"]["iteration"] = list(range(1, 21))
                made["curve"]["train_loss"] = [1.0] * 20
                records.write(Run(*place(row, variant), tier, seed, reduction), made, tmp_path)

    write.results = tmp_path
    return write


@pytest.fixture
def three_seeds(ran):
    ran(1, "original", "pocket", (50.0, 51.0, 52.0))
    ran(1, "conv-1x1", "pocket", (60.0, 61.5, 62.0))
    ran(1, "exclusive-gating-0-to-5", "pocket", (80.0, 80.0, 80.0))
    ran(1, "original", "smoke", (4.0,))
    return ran.results


@pytest.mark.parametrize("table", paper.TABLES)
def test_a_table_without_a_record(table, tmp_path):
    text = pages.table(table, tmp_path).data
    assert f"No row of Table {table} has been run here yet." in text and "not run" not in text
    assert all(row.name().split(", ")[-1] in text for row in paper.rows(table))
    chart = getattr(pages.forest(table, tmp_path), "data", "")
    assert "no chart" in chart


def test_a_number_links_to_the_page_that_holds_its_record(three_seeds):
    text = pages.table(1, three_seeds).data
    ran = ("original", "conv-1x1", "exclusive-gating-0-to-5")
    links = re.findall(r"\[([^\]]*)\]\((rows/[^)]*)\)", text)
    by_name = {(row.name(), pages.address(row)) for row in paper.rows(1) if row.id not in ran}
    assert by_name < set(links)  # a row without runs leads to the command for them
    links = [link for link in links if link not in by_name]
    assert {address for _, address in links} == {f"rows/table-1/{id}.md" for id in ran}
    rows.write_all(three_seeds / "book" / "rows", three_seeds)
    for number, address in links:
        page = (three_seeds / "book" / address).read_text()
        assert number in page or "each" in number
        found = re.findall(r"\{download\}`JSON <(.*?)>`", page)
        assert found and all((three_seeds / "book" / address).parent.joinpath(path).exists() for path in found)


def test_no_cell_of_words_is_a_rows_id(three_seeds):
    text = re.sub(r"\]\([^)]*\)", "]", pages.table(1, three_seeds).data)
    words = set(re.findall(r"[\w.-]+", text))
    assert words & CODED == set()


def test_the_best_tier_stands_in_the_table_and_the_rest_is_folded(three_seeds):
    main, folded = pages.table(1, three_seeds).data.split("::::{dropdown}")
    assert "51.00 (51.00 ± 1.00)" in main and "4.00" not in main
    assert "Smoke tier: 1 row" in folded and "digits" in folded and "[4.00]" in folded


def test_enough_runs_go_before_fewer_of_a_larger_tier(three_seeds, ran):
    (row,) = paper.rows(1, ["original"])
    ran(1, "original", "quick", (9.0, 9.2))
    assert [each.tier for each in evidence.of_row(row, three_seeds)] == ["pocket", "quick", "smoke"]
    ran(1, "original", "quick", (9.0, 9.2, 9.1))
    assert evidence.best(row, three_seeds).tier == "quick"


def test_only_methods_on_the_same_images_are_quoted(tmp_path):
    text = pages.table(4, tmp_path).data
    quoted = {each.method for each in paper.CITED if f"{each.method}, quoted" in text}
    assert quoted == {each.method for each in paper.CITED if each.dataset != "imagenet"}


def test_another_depth_does_not_stand_for_the_row(ran):
    ran(1, "original", "quick", (14.0, 14.1, 14.2), Reduction(depth=20))
    (row,) = paper.rows(1, ["original"])
    assert evidence.best(row, ran.results) is None
    text = pages.table(1, ran.results).data
    assert "14.10" not in text.split("::::{dropdown}")[0] and "14.10" in text


def test_the_readme_and_the_tables_page_take_the_same_tier(three_seeds):
    for row in paper.rows(1):
        best = evidence.best(row, three_seeds)
        if row.baseline and best:
            assert (best.tier, best.reduction) == tables.nearest(row, three_seeds)


def test_a_row_of_several_recipes_has_a_line_for_each(three_seeds):
    text = pages.table(1, three_seeds).data
    lines = [line for line in text.splitlines() if "&emsp;" in line]
    assert [re.search(r"b_g = (-?\d)", line)[1] for line in lines] == ["0", "-1", "-2", "-3", "-4", "-5"]


def test_the_chart_shows_what_the_verdicts_say(three_seeds):
    found = {row.id: (verdict, mean, half) for row, _, _, verdict, mean, half in pages.points(1, three_seeds)}
    verdict, mean, half = found["conv-1x1"]
    assert verdict.word == "seen" and mean == pytest.approx(10.1667, abs=1e-3) and mean - half > 0
    picture = pages.forest(1, three_seeds)
    assert picture.data["the paper's difference"][picture.data["row"].index("1x1 conv shortcut")] == pytest.approx(5.61)
    assert "seen" in picture.alt and picture.words.endswith(".")


def test_a_chart_of_single_pairs_shows_no_interval_and_says_so(ran):
    ran(1, "original", "pocket", (50.0,))
    ran(1, "scaling-0.5-1", "pocket", (80.0,))
    picture = pages.forest(1, ran.results)
    assert picture.data["half of the 95 % interval"] == ("",)
    assert "it has no interval and decides nothing" in picture.words and "diamond" not in picture.words
    assert "+30.0 points, one pair of runs, undecided" in picture.alt
    (axis,) = picture.figure.axes
    marks = [line for line in axis.lines if line.get_marker() == "o"]
    assert len(marks) == 1 and marks[0].get_markerfacecolor() == "none"
    left, right = axis.get_xlim()
    assert left < 30 < right / 1.2  # not on the frame
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["undecided, one pair"]


def test_every_ordering_of_the_paper_is_named_once(three_seeds, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(three_seeds))
    text = pages.orderings(1, three_seeds).data
    parts = dict(re.findall(r"\*(\w[\w ]*)\*: (.*?)\.(?= \*|$)", text))
    assert parts["Seen"] == "1x1 conv shortcut: worse (n = 3)" and parts["Contradicted"] == "none"
    named = [words for words in "; ".join(parts.values()).split("; ") if words != "none"]
    assert len(named) == sum(row.claim is not None for row in paper.rows(1))


def test_one_run_is_no_verdict(ran):
    ran(1, "original", "pocket", (50.0,))
    for id in ("conv-1x1", "scaling-0.5-0.5", "exclusive-gating-0-to-5", "shortcut-gating-6"):
        ran(1, id, "pocket", (80.0,))
    said = pages.orderings(1, ran.results).data + pages.seen(1, results=ran.results).data
    said += pages.table(1, ran.results).data + pages.forest(1, ran.results).alt
    assert "*Seen*: none. *Contradicted*: none." in said
    assert not re.search(r": (seen|contradicted) \(|, (seen|contradicted)\b", said)


def test_the_end_of_training_leads_to_its_runs(ran):
    ran(3, "cifar10-110-original", "pocket", (50.0,))
    assert "no pair has both" in pages.convergence(ran.results).data
    ran(3, "cifar10-110-pre-activation", "pocket", (40.0,))
    (line,) = [line for line in pages.convergence(ran.results).data.splitlines() if "pocket" in line]
    assert line.count("](rows/table-3/cifar10-110-original.md)") == 2 and "[50.00]" in line
    assert line.count("](rows/table-3/cifar10-110-pre-activation.md)") == 2 and line.count("undecided (n = 1") == 2


def test_a_studys_records_can_be_downloaded(outcome, tmp_path):
    assert "No run of its own" in pages.study_records("gate-bias", tmp_path).data
    (row,) = paper.rows("gate-bias", ["bias-4"])
    for seed in (0, 1):
        records.write(Run(row, "", "smoke", seed), outcome(2.0), tmp_path)
    text = pages.study_records("gate-bias", tmp_path).data
    found = re.findall(r"(\d): \{download\}`JSON <(.*?)>`", text)
    assert [seed for seed, _ in found] == ["0", "1"]
    assert all((Path(pages.__file__).parents[4] / "book" / path).resolve().exists() for _, path in found)


def test_a_new_record_changes_the_pages(three_seeds, ran):
    folder = three_seeds / "book" / "rows"
    rows.write_all(folder, three_seeds)
    page, other = folder / "table-1" / "dropout.md", folder / "table-1" / "plain.md"
    assert "Nothing has been run of this row yet." in page.read_text()
    before = other.stat().st_mtime_ns
    ran(1, "dropout", "pocket", (70.0, 71.0, 72.0))
    rows.write_all(folder, three_seeds)
    assert "71.00 (71.00 ± 1.00)" in page.read_text() and "dropout shortcut" in pages.table(1, three_seeds).data
    assert other.stat().st_mtime_ns == before  # as it was: not written, so not read again


def test_pages_are_not_made_again_where_nothing_changed(three_seeds, monkeypatch):
    folder = three_seeds / "book" / "rows"
    rows.write_all(folder, three_seeds)
    monkeypatch.setattr(rows, "page", lambda *_: pytest.fail("made again"))
    rows.write_all(folder, three_seeds)


def test_a_page_of_no_row_goes(three_seeds):
    folder = three_seeds / "book" / "rows"
    (folder / "table-1").mkdir(parents=True)
    (folder / "table-1" / "gone.md").write_text("# Gone")
    rows.write_all(folder, three_seeds)
    assert not (folder / "table-1" / "gone.md").exists()
    assert len(list(folder.rglob("*.md"))) == sum(map(len, paper.TABLES.values()))


def test_a_rows_page_gives_the_command_that_made_its_runs(ran):
    ran(1, "conv-1x1", "quick", (60.0, 61.0), Reduction(depth=20, iterations=400))
    (row,) = paper.rows(1, ["conv-1x1"])
    text = rows.page(row, Path(ran.results / "rows" / "table-1"), ran.results)
    assert (
        "invoke reproduce --table 1 --row conv-1x1 --tier quick --depth 20 --iterations 400 --seeds 2 "
        "--precision fp32 --device cpu"
    ) in text


def test_baselines_of_one_recipe_are_told_together_and_others_apart(ran, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(ran.results))
    for net, error in (("cifar10-110-1layer", 60.0), ("cifar10-110", 50.0), ("cifar10-164", 40.0)):
        ran(3, f"{net}-original", "pocket", (error, error + 2))
        ran(3, f"{net}-pre-activation", "pocket", (error - 5, error - 4))
    text = show.reading(3).data
    both = (
        "*CIFAR-10, ResNet-110(1layer), original* and *CIFAR-10, ResNet-110, original* are trained on CIFAR-10 at 16x16"
    )
    assert both in text and "end at test errors of 61.00 and 51.00 %" in text and "at 9.90 and 6.61 %" in text
    assert "\n- The baseline *CIFAR-10, ResNet-164, original* is trained on" in text
    assert "a test error of 41.00 %" in text
    assert "4, 8, 16 channels (times 4 between units) for 2,560" in text and text.count("How to read") == 1


def test_a_baseline_at_chance_is_told_as_one_and_what_all_settings_share_is_said_once(ran, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(ran.results))
    cut = Reduction(iterations=640)
    for net, error, reduction in (("164", 60.0, Reduction()), ("1001", 89.9, cut)):
        ran(3, f"cifar10-{net}-original", "pocket", (error, error), reduction)
        ran(3, f"cifar10-{net}-pre-activation", "pocket", (55.0, 56.0), reduction)
    *settings, closing = show.reading(3).data.split("\n\n")
    tier, reduced = settings
    assert tier.startswith("**How to read the pocket tier.** The baseline") and "no better than a guess" not in tier
    assert reduced.startswith("**How to read the pocket tier, reduced to 640 iterations.** The baseline")
    assert "a test error of 89.90 % and a training error of 40.0 %, no better than a guess" in reduced
    assert closing.startswith("Such runs") and closing.endswith("`invoke reproduce --table 3 --tier paper --seeds 5`.")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((89.9, 89.9), "(2 of 2 runs failed). These runs are too few to tell."),
        ((89.9, 60.0, 89.9), "(2 of 3 runs failed). Here it depends on the seed whether it fails."),
    ],
)
def test_runs_of_which_some_fail_are_not_called_too_few(ran, errors, told):
    ran(1, "original", "pocket", (50.0, 51.0, 52.0))
    ran(1, "dropout", "pocket", errors)
    assert pages.seen(1, "dropout", results=ran.results).data.endswith(told)


def test_a_row_of_several_settings_gives_what_its_table_gives_of_each(ran):
    ran(1, "original", "pocket", (50.0, 51.0))
    ran(1, "exclusive-gating-0-to-5", "pocket", (80.0, 81.0), step=1.0)
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    (each,) = evidence.of_row(row, ran.results)
    text = rows.page(row, Path(ran.results / "rows" / "table-1"), ran.results)
    for position, line in enumerate(each.lines()[:-1]):
        error = 80.5 + position
        assert f"| init $b_g = {-position}$ | {error:.2f} ({error:.2f} ± 0.71) | 2 | {line.verdict} |" in text


@pytest.mark.parametrize("row", [row for table in paper.TABLES for row in paper.rows(table)], ids=lambda row: row.id)
def test_a_title_is_in_the_papers_words(row, tmp_path):
    title = rows.page(row, tmp_path, tmp_path).split("\n# ", 1)[1].splitlines()[0]
    assert not set(re.findall(r"[\w.-]+", title)) & CODED and "not run" not in title.lower()
