"""The studies: which recipes they compare, the folds of the search, and the paired differences."""

import math
import statistics

import numpy as np
import pytest

from identity_mappings import data
from identity_mappings.commands import scaled
from identity_mappings.experiments import paper, runs, studies
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.pages import plots
from identity_mappings.results import tables
from identity_mappings.results.statistics import Summary, difference


def leaves(json, path=()):
    """{path: value} of nested dicts."""
    if not isinstance(json, dict):
        return {path: tuple(json) if isinstance(json, list) else json}
    return {key: value for name, part in json.items() for key, value in leaves(part, (*path, name)).items()}


@pytest.mark.parametrize("row", [row for row in studies.STUDIES["choices"] if row.baseline], ids=lambda row: row.id)
def test_a_choice_departs_from_its_baseline_in_one_field(row):
    (baseline,) = paper.rows("choices", [row.baseline])
    ours, theirs = leaves(row.recipe().to_json()), leaves(baseline.recipe().to_json())
    assert len({path for path in ours | theirs if ours.get(path) != theirs.get(path)}) == 1


def test_baselines_share_the_runs_of_the_papers_tables():
    homes = {row.id: runs.place(row, "")[0] for row in studies.STUDIES["choices"]}
    shared = {id: (home.table, home.id) for id, home in homes.items() if home.table != "choices"}
    assert shared == {
        "basic": (1, "original"),
        "bottleneck": (2, "164-original"),
        "dropout": (1, "dropout"),
        "gate": (1, "shortcut-gating-6"),
    }


def test_the_search_is_over_the_papers_range_and_keeps_its_own_runs():
    rows = paper.rows("gate-bias")
    assert [dict(row.networks[""].shortcut.options)["bias"] for row in rows] == list(range(0, -11, -1))
    assert all(runs.place(row, "")[0].table == "gate-bias" for row in rows)  # Table 1 trains on all images


@pytest.mark.parametrize("group", studies.STUDIES)
def test_a_studys_scale_is_one_that_its_rows_can_take(group):
    scale = studies.SCALES[group]
    assert len(runs.plan(paper.rows(group), scale.tier, scale.seeds, scale.reduction)) == scale.seeds * len(
        paper.rows(group)
    )


def test_a_command_takes_a_studys_scale_whole_or_not_at_all():
    scale = studies.SCALES["choices"]
    assert scaled("choices") == (scale.tier, scale.seeds, scale.reduction)
    assert scaled("choices", seeds=2) == (scale.tier, 2, scale.reduction)
    assert scaled("choices", tier="smoke") == ("smoke", scale.seeds, Reduction())
    assert scaled("choices", reduction=Reduction(depth=20)) == ("smoke", scale.seeds, Reduction(depth=20))
    assert scaled(3) == ("smoke", 1, Reduction())
    assert scaled(3, device="cuda") == ("quick", 1, Reduction())


def test_folds_cut_the_training_images_into_parts():
    whole = data.load("digits")
    parts = [whole.without(k, 10) for k in range(10)]
    images = np.concatenate([part.x_test for part in parts]).reshape(len(whole.x_train), -1)
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole.x_train.reshape(len(images), -1)))
    for part in parts:
        assert len(part.x_train) + len(part.x_test) == len(whole.x_train)
        assert np.bincount(part.y_test, minlength=10).min() > 0
    assert np.array_equal(whole.without(13, 10).x_test, parts[3].x_test)


def test_only_a_recipe_of_the_search_has_folds():
    (searched,), (trained,) = paper.rows("gate-bias", ["bias-6"]), paper.rows(1, ["exclusive-gating-6"])
    plain = trained.recipe().to_json()
    assert searched.recipe().to_json() == plain | {"folds": 10} and "folds" not in plain


def test_a_run_of_the_search_is_tested_on_its_fold(tmp_path):
    from identity_mappings.training.state import State

    (row,) = paper.rows("gate-bias", ["bias-6"])
    run = runs.Run(row, "", "smoke", 3, Reduction(depth=8, iterations=2))
    state = State(run.recipe, run.seed, "cpu", "fp32")
    fold = data.load("digits").without(3, 10)
    assert np.array_equal(state.test.images, fold.x_test)
    assert np.array_equal(state.batches.images.images, fold.x_train)


def summary(id, table="choices", **errors):
    (row,) = paper.rows(table, [id])
    found = tuple(
        {"seed": int(seed[1:]), "test_error": error, "status": "diverged" if error is None else "finished"}
        for seed, error in errors.items()
    )
    values = tuple(sorted(math.inf if error is None else error for error in errors.values()))
    return Summary(row, "quick", values, found)


def test_a_difference_is_paired_by_seed():
    ours, base = summary("nesterov", s0=31.0, s1=33.0, s2=35.5), summary("basic", s2=35.0, s1=32.0, s0=30.0, s7=99.0)
    mean, half = difference(ours, base)
    assert mean == pytest.approx(2.5 / 3)
    assert half == pytest.approx(4.303 * statistics.stdev([1.0, 1.0, 0.5]) / math.sqrt(3))
    assert tables.effect(ours, base) == "+0.83 ± 0.72: differs"


@pytest.mark.parametrize(
    "ours, base, said",
    [
        (summary("nesterov", s0=31.0, s1=29.0), summary("basic", s0=30.0, s1=30.0), "+0.00 ± 12.71: contains zero"),
        (summary("nesterov", s0=31.0), summary("basic", s0=30.0), "no interval"),
        (summary("nesterov", s0=31.0, s1=None), summary("basic", s0=30.0, s1=30.0), "no interval"),
        (summary("nesterov"), summary("basic", s0=30.0), "not run"),
        (summary("basic", s0=30.0), None, "baseline"),
    ],
)
def test_what_is_said_of_a_choice(ours, base, said):
    assert tables.effect(ours, base) == said


def test_the_curve_of_the_search_has_each_fold_in_its_place():
    found = [
        summary("bias-0", "gate-bias", s0=90.0, s1=None),
        summary("bias-3", "gate-bias", s1=2.5, s0=1.5),
        summary("bias-9", "gate-bias"),
    ]
    picture = plots.search(found, "The search")
    assert picture.data == {
        "bias": ["0", "-3", "-9"],
        "median": [100.0, 2.0, None],
        "fold 0": [90.0, 1.5, None],
        "fold 1": [100.0, 2.5, None],
    }
    assert picture.alt == "The search. Median in percent by bias: 0: 100.0, -3: 2.0."
