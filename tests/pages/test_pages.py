"""The book's sources: no reproduced number typed by hand, each statement with code and test, costs from records."""

import json
import re
import statistics
import sys
from pathlib import Path

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import IMAGENET, Reduction
from identity_mappings.experiments.runs import Run, plan
from identity_mappings.pages import explorers, plots, show
from identity_mappings.pages.pictures import lines, wrapped
from identity_mappings.results import costs, records

BOOK = Path(__file__).resolve().parents[2] / "book"
sys.path.insert(0, str(BOOK))
import appendix  # noqa: E402

PAGES = sorted(BOOK.glob("*.md"))

# A number that a reader would take for a result: a percentage, or in a line on errors one as the paper prints them.
PERCENT = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(?:%|percent\b|\\%)")
PRINTED = re.compile(r"(?<![\w.-])(\d{1,2}\.\d\d)(?![\w.])")


def results_in(text):
    """The numbers of a text that a reader would take for results."""
    on_errors = "\n".join(line for line in text.splitlines() if re.search("error|accura|fail", line))
    return {*PERCENT.findall(text), *PRINTED.findall(on_errors)}


def papers_numbers():
    """Every number that the paper prints as a result, as text, and the two percentages that its method names."""
    rows = [row.published for table in paper.TABLES for row in paper.rows(table)]
    values = [value for row in rows for value in (row.error, row.mean, row.std) if value is not None]
    values += [cited.error for cited in paper.CITED]
    on_imagenet = [*(row.published for row in paper.rows(5)), paper.CITED[-1]]
    crops = {f"{each:.1f}" for one in on_imagenet for each in (one.error, one.top5)}
    # Table 1's line for "fail", an interval's confidence, the warm-up's rate, Inception-ResNet-v2 in section 5's text,
    # a guess among ten classes, the distance of Table 1's last gate to its baseline
    method = {"20", "95", "0.01", "19.9", "90", "0.30"}
    return {f"{value:.2f}" for value in values} | crops | method


def prose(text):
    """A page without its front matter and without the cells, whose numbers are computed."""
    text = text.split("---", 2)[2] if text.startswith("---") else text
    return re.sub(r"```\{code-cell\}.*?```", "", text, flags=re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_is_typed_by_hand(page):
    typed = results_in(prose(page.read_text()))
    assert typed <= papers_numbers(), "a number that is not the paper's must come from a record"


@pytest.mark.parametrize(
    "text, found", [("an error of 7.31 here", "7.31"), ("4.9 % of", "4.9"), ("at 3\\%", "3"), ("12 percent", "12")]
)
def test_the_search_for_typed_numbers_finds_them(text, found):
    assert results_in(text) == {found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_in_the_table_of_contents(page):
    assert re.search(rf"(file|root): {page.stem}$", (BOOK / "_toc.yml").read_text(), re.M)


@pytest.mark.parametrize(
    "statement", [*appendix.CIFAR, *appendix.UNITS, *appendix.IMAGENET], ids=lambda one: one.words[:40]
)
def test_a_statement_has_its_line_and_its_test(statement):
    number, text = appendix.line(statement.code)
    assert number > 0 and statement.code[1] in text
    appendix.test_of(statement.test)
    for page in re.findall(r"\]\((.+?)\)", statement.more):
        assert (BOOK / page).exists()


def test_a_line_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="found 0"):
        appendix.line(("nets/units.py", "no such line"))
    with pytest.raises(ValueError, match="found [1-9]"):
        appendix.line(("nets/units.py", "self."))
    with pytest.raises(ValueError, match="found 0"):
        appendix.test_of(("nets/test_units.py", "test_nothing"))


def test_the_papers_hours():
    assert [each.hours * each.gpus for each in costs.PUBLISHED] == [54, 4032]


def test_what_imagenet_takes():
    assert (IMAGENET.iterations, IMAGENET.batch // costs.PAPERS_GPUS) == (450_410, 32)
    table = costs.imagenet()
    nets = [line for line in table.splitlines() if line.startswith("| ResNet")]
    assert [line[:12] for line in nets] == ["| ResNet-101", "| ResNet-152", "| ResNet-200"]
    assert nets[1].startswith("| ResNet-152 | 60.2 M | 11.3 G | 23.0 G | 7.8 EFLOP |")
    # multiply-adds, there and back to inputs and weights, two operations each; 4,032 GPU hours
    assert costs.papers_rate() == pytest.approx(14.78e9 * 3 * 2 * 1_281_167 * 90 / (4_032 * 3_600), rel=1e-3)


def test_what_imagenet_takes_a_core():
    """0.978 s an image, of 1,281,167 of them for 90 epochs."""
    assert "| ResNet-152 | 0.98 (0.91 to 0.98) | 1,305 |" in show.imagenet_steps(BOOK / "imagenet-step.json").data
    assert round(0.978 * 1_281_167 * 90 / 86_400) == 1305


def test_the_loader_is_measured_beside_torchvisions():
    """At least 1.3 times as many images per second and core as torchvision's ImageFolder gives."""
    ratios = json.loads((BOOK / "loader.json").read_text())["ratio"]
    plain, *_, ours = ratios.values()
    assert set(plain) == {1.0} and min(ours) >= 1.3
    assert f"| {statistics.median(ours)} (" in show.loader(BOOK / "loader.json").data


def test_what_ray_costs_is_measured_beside_the_runs_alone():
    """Under five percent for runs of a minute, as the median of its rounds."""
    found = json.loads((BOOK / "scheduling.json").read_text())["seconds"]
    ratio = statistics.median(each["ray"] / each["alone"] for each in found)
    assert len(found) >= 5 and ratio < 1.05
    told = show.scheduling(BOOK / "scheduling.json").data
    assert told.startswith("2 runs of 0.7 minutes") and f"{ratio:.3f} (" in told


def test_costs_are_medians_of_the_finished_runs(outcome, tmp_path):
    (row,) = paper.rows(2, ["110-original"])
    cut = Reduction(depth=20, iterations=400)
    for seed, seconds in enumerate((100.0, 140.0, 900.0)):
        made = outcome(None if seconds > 500 else 9.0, "diverged" if seconds > 500 else "finished")
        made |= {"device": "a CPU", "device_seconds": seconds}
        records.write(Run(paper.rows(1, ["original"])[0], "", "quick", seed, cut), made, tmp_path)
    (cost,) = costs.costs(tmp_path)
    assert (cost.row.table, cost.n, cost.seconds, cost.each) == (1, 2, 120.0, 0.3)
    text = costs.markdown(tmp_path)
    assert "| Table 1, original, 20 layers, 400 iterations | 2 | a CPU, fp32 | 2.0 minutes | 0.300 |" in text
    assert text.count("Not run.") == 3  # the paper, the pocket and the smoke tier
    assert row.published.error == 6.61


@pytest.mark.parametrize(
    "seconds, said",
    [
        (5.25, "5.2 seconds"),
        (119, "119.0 seconds"),
        (150, "2.5 minutes"),
        (97_200, "27.0 hours"),
        (1_814_400, "21.0 days"),
    ],
)
def test_durations(seconds, said):
    assert costs.duration(seconds) == said


@pytest.mark.parametrize("make", [explorers.lambdas, explorers.gates])
def test_explorers_carry_their_script_and_a_still_picture(make):
    bundle = make()._repr_mimebundle_()
    assert bundle["image/png"] and "<script>" in bundle["text/html"]
    assert not re.search(r"@[A-Z]+@", bundle["text/html"])
    assert not re.search(r"(src|href)=\"https?:", bundle["text/html"])


def test_a_gates_factor():
    assert explorers.gate_factor(0.0) == 0.5
    assert explorers.gate_factor(-6.0) == pytest.approx(0.99753, abs=1e-5)
    assert explorers.powers(0.5, 3) == [1.0, 0.5, 0.25, 0.125]


def test_a_pictures_numbers_are_in_its_file():
    picture = lines(
        {"a": [1.0, 2.0], "b": [3.0, None, 5.0]}, "unit", alt="Two lines.", name="n", xlabel="x", ylabel="y",
        caption="What to see.",
    )  # fmt: skip
    assert picture.csv() == "unit,a,b\n0,1.0,3.0\n1,2.0,\n2,,5.0\n"
    assert 'download="n.csv"' in picture.html() and 'aria-label="Two lines."' in picture.html()
    assert "<figcaption><p>What to see.</p>" in picture.html()


def test_lines_of_one_colour_differ_in_their_dashes():
    shown = {"a": [1.0, 2.0], "b": [2.0, 3.0], "c": [3.0, 4.0]}
    colours = {"a": "#123456", "b": "#123456", "c": "#654321"}
    picture = lines(shown, "unit", alt="Three lines.", name="n", xlabel="x", ylabel="y", colours=colours)
    drawn = picture.figure.axes[0].lines
    assert [line.get_color() for line in drawn] == list(colours.values())
    assert [line.get_linestyle() for line in drawn] == ["-", "--", "-"]


@pytest.mark.parametrize(
    "label", ["short", "a label that is a good deal longer", "and one of more letters than a picture has room for"]
)
def test_a_legend_is_no_wider_than_its_picture(label):
    shown = {f"{label} {number}": [1.0, 2.0] for number in range(4)}
    figure = lines(shown, "unit", alt="Four lines.", name="n", xlabel="x", ylabel="y").figure
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.get_window_extent().width


def test_a_formula_is_not_broken_over_lines():
    assert wrapped("exclusive gating ($b_g = -1$)", 24) == "exclusive gating\n($b_g=-1$)"
    assert wrapped("a few words of prose", 10) == "a few\nwords of\nprose"


def test_one_colour_a_unit():
    """The same row has the same colour in curves, in pictures by its order, and beside its baseline."""
    for row in paper.rows(2):
        (network,) = row.networks.values()
        assert plots.colour_of(row, 5) == plots.unit_colour(network.order)
    assert plots.unit_colour("original") != plots.unit_colour("full pre-activation")


def test_the_page_of_choices_says_of_bns_layout_what_its_records_say():
    """Both intervals contain zero; a pair's losses differ at the first iteration that both have, all but once early."""
    folder = BOOK / "batch-norm"
    assert show.layouts(folder).data.count("contains zero") == 2
    first = []
    for path in (folder / "contiguous").rglob("seed-*.json"):
        pair = [path, folder / "channels-last" / path.relative_to(folder / "contiguous")]
        curves = [json.loads(each.read_text())["curve"] for each in pair]
        losses = [dict(zip(curve["iteration"], curve["train_loss"], strict=True)) for curve in curves]
        first.append(min(losses[0].keys() & losses[1].keys()))
        assert losses[0][first[-1]] != losses[1][first[-1]]
    assert sorted(first)[-1] == 300 and set(first) == {15, 22, 300} and first.count(300) == 1


# --- the parts that every chapter has


CHAPTERS = {page.stem: page.read_text() for page in PAGES}
IDS = {row.id for table in paper.TABLES for row in paper.rows(table)} - {"original", "plain", "dropout"}


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_title_is_a_rows_id_or_says_not_run(name):
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", CHAPTERS[name], flags=re.S), re.M)
    for title in titles:
        assert not set(re.findall(r"[\w.-]+", title)) & IDS and "not run" not in title.lower()


@pytest.mark.parametrize("name", CHAPTERS)
def test_an_exercise_is_followed_by_its_solution(name):
    """In a cell, so that every build runs it; folded, under the exercise's number."""
    asked = re.findall(r"\{admonition\} Exercise (\d+)", CHAPTERS[name])
    solved = re.findall(
        r"\{admonition\} Exercise (\d+)[^`]*(?:`[^`]+`[^`]*)*```\n+```\{code-cell\} python3\n"
        r"---\ntags: \[hide-cell, solution\]\n"
        r"mystnb: \{code_prompt_show: \"Solution of exercise \1\"",
        CHAPTERS[name],
    )
    assert asked == solved == [str(number + 1) for number in range(len(asked))]


UNDERSTAND = ["analysis", "units", "inside", "argument", "since"]


@pytest.mark.parametrize("name", [*UNDERSTAND, "table-1", "table-2", "table-3", "table-4", "gate-bias"])
def test_a_chapter_asks_two_to_four_questions(name):
    assert 2 <= len(re.findall(r"\{admonition\} Exercise", CHAPTERS[name])) <= 4


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_picture_in_a_chapter_has_a_caption(name):
    for call in re.findall(r"^lines\(\n.*?^\)$", CHAPTERS[name], flags=re.S | re.M):
        (caption,) = re.findall(r'caption="""(.*?)"""', call, flags=re.S)
        assert caption.rstrip().endswith(".")


def test_citations_are_there():
    known = set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(), re.M))
    cited = {key for text in CHAPTERS.values() for key in re.findall(r"\{cite:[tp]\}`(\w+)`", text)}
    assert cited <= known and known <= cited


@pytest.mark.parametrize("name", ["choices", "gate-bias"])
def test_a_study_names_its_settings_by_their_words(name):
    text = show.study(name).data
    named = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert {row.name() for row in paper.rows(name)} <= {*named}
    assert not {row.id for row in paper.rows(name)} & {*named}


@pytest.mark.parametrize("tier, crops", [("smoke", (64, 73, 64, 91, 91)), ("paper", (224, 256, 224, 320, 320))])
def test_a_notebook_on_imagenet_says_the_crops_of_its_tier(tier, crops):
    training, side, crop, larger_side, larger = crops
    shown = show.recipe(plan(paper.rows(5, ["200-pre-activation-320"]), tier, 1)).data
    assert f"| crop in training, pixels | {training} |" in shown
    assert f"| {crop} of a shorter side of {side}, {larger} of a shorter side of {larger_side} |" in shown
    assert "| data | pictures that the library draws |" in shown or tier == "paper"
