"""The paper's training curves: their rows, the records that they take, and what a page gets of them."""

import csv
import io

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import figures, plots, show
from identity_mappings.results import records
from identity_mappings.results.statistics import summaries, summarise


@pytest.mark.parametrize("figure", figures.FIGURES.values(), ids=lambda figure: figure.name)
def test_each_curve_is_a_row_and_the_first_its_baseline(figure):
    first, second = (paper.rows(table, [id])[0] for table, id in figure.rows)
    assert first.baseline is None
    assert second.baseline == first.id


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    return tmp_path


def write(outcome, table, id, tier, seed=0, cut=Reduction(), points=20, variant=""):
    (row,) = paper.rows(table, [id])
    curve = {column: values * points for column, values in outcome["curve"].items()} | {"iteration": [*range(points)]}
    records.write(Run(*place(row, variant), tier, seed, cut), outcome | {"curve": curve})


def test_the_records_nearest_to_the_papers_are_taken(folder, outcome):
    figure, cut = figures.figure("6-left"), Reduction(depth=20)
    assert figure.settings() == []
    for tier, reduction in (("smoke", Reduction()), ("quick", cut)):
        write(outcome(5.0), 2, "110-original", tier, cut=reduction)
        write(outcome(6.0), 2, "110-bn-after-addition", tier, cut=reduction)
    write(outcome(4.0), 2, "110-original", "paper")  # without its partner it makes no figure
    assert figure.settings() == [("quick", cut), ("smoke", Reduction())]


def test_a_figure_without_runs_says_what_it_needs(folder):
    text = show.figure("3a").data
    assert text.endswith("Not drawn: no tier has runs of both.") and "What the paper sees" in text


@pytest.mark.parametrize("figure", figures.FIGURES.values(), ids=lambda figure: figure.name)
def test_every_figure_appears_once_its_records_are_there(folder, outcome, figure):
    """And one run of each row, however far apart they lie, is told as undecided."""
    for (table, id), error in zip(figure.rows, (40.0, 80.0), strict=True):
        assert "Not drawn" in show.figure(figure.name).data
        write(outcome(error), table, id, "pocket")
    shown = show.figure(figure.name)
    assert isinstance(shown, show.Curves) and shown.title.startswith(figure.title)
    assert ": undecided (n = 1, +40.0)." in shown.caption
    assert "b_g" not in shown._repr_mimebundle_()["text/html"].partition("<figcaption>")[2]
    assert not {"seen", "contradicted"} & set(shown.caption.replace("the paper sees", "").split())


def test_a_figure_is_drawn_from_curves_with_enough_points(folder, outcome):
    figure = figures.figure("6-left")
    write(outcome(5.0), 2, "110-original", "quick", points=17)
    write(outcome(6.0), 2, "110-bn-after-addition", "quick")
    for id in ("110-original", "110-bn-after-addition"):
        assert figure.drawn() == []
        text = show.figure("6-left").data
        assert text.endswith(
            "Not drawn: a curve needs 20 points, and the records have fewer: ResNet-110, original (17 points). "
            "Train them anew."
        )
        assert show.curves(2, "110-original", "quick").data in text
        write(outcome(6.0), 2, id, "smoke")
    assert figure.drawn() == [("smoke", Reduction())]
    shown = show.figure("6-left")
    assert isinstance(shown, show.Curves) and "smoke tier: scikit-learn's digits" in shown.title
    assert "BN after addition: worse than the baseline: undecided (n = 1, +0.0)" in shown.caption


def test_a_page_gets_a_plot_a_picture_and_the_data(folder, outcome):
    for seed in (0, 1):
        write(outcome(5.0), 1, "original", "smoke", seed)
    write(outcome(None, "diverged"), 1, "conv-1x1", "smoke")
    curves = show.figure("3d")
    bundle = curves._repr_mimebundle_()
    assert bundle["image/png"] in bundle["text/html"]
    assert "<script src" not in bundle["text/html"]  # the site brings plotly along
    lines = list(csv.DictReader(io.StringIO(curves.csv())))
    (row,) = paper.rows(1, ["original"])
    curve = records.read(Run(row, "", "smoke", 1))["curve"]
    ours = [line for line in lines if (line["row"], line["seed"]) == ("original", "1")]
    assert [float(line["test_error"]) for line in ours] == curve["test_error"]
    assert [int(line["iteration"]) for line in ours] == curve["iteration"]
    assert any(line["test_error"] == "" for line in lines if line["row"] == "conv-1x1")


@pytest.mark.parametrize(("end", "top"), [(5.0, 20), (20.0, 30), (48.8, 100), (None, 20)])
def test_the_error_axis_is_cut_for_runs_that_end_low_only(folder, outcome, end, top):
    write(outcome(end, "finished" if end else "diverged"), 1, "original", "pocket")
    (row,) = paper.rows(1, ["original"])
    figure = plots.curves([summarise(row, "pocket")])
    assert figure.axes[1].get_ylim() == (0, top)


def test_a_long_legend_makes_the_figure_higher_and_leaves_the_curves_their_room(folder, outcome):
    (gate,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    for variant in gate.networks:
        write(outcome(50.0), 1, gate.id, "pocket", variant=variant)
    found = summaries(gate, "pocket")
    short, long = plots.curves(found[:1]), plots.curves(found)
    for figure in (short, long):
        figure.draw_without_rendering()
    heights = [figure.axes[0].get_window_extent().height / figure.dpi for figure in (short, long)]
    assert heights[0] == pytest.approx(heights[1], abs=0.05)
    assert long.get_figheight() > short.get_figheight() + 0.5
