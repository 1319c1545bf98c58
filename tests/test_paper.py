"""The tables against numbers copied from the paper's pages, and each recipe's single home."""

import pytest

from identity_mappings import UsageError, paper
from identity_mappings.runs import plan

TABLE_1 = [6.61, None, None, 12.35, None, 8.70, 9.81, 12.86, 6.91, 12.22, None]
TABLE_2 = {110: [6.61, 8.17, 7.84, 6.71, 6.37], 164: [5.93, 6.50, 6.14, 5.91, 5.46]}
TABLE_3 = [9.90, 8.91, 6.61, 6.37, 5.93, 5.46, 7.61, 4.92, 25.16, 24.33, 27.82, 22.71]


def printed(table):
    return [row.published.error for row in paper.rows(table)]


def test_numbers_in_the_order_of_print():
    assert printed(1) == TABLE_1
    assert sorted(printed(2)) == sorted(TABLE_2[110] + TABLE_2[164])
    assert printed(3) == TABLE_3
    assert [len(paper.rows(table)) for table in (1, 2, 3)] == [11, 10, 12]


@pytest.mark.parametrize("depth", TABLE_2)
def test_table_2_by_depth(depth):
    rows = [row for row in paper.rows(2) if row.networks[""].depth == depth]
    assert [row.published.error for row in rows] == TABLE_2[depth]
    assert [row.figure[-2] for row in rows] == list("abcde")


def test_the_fail_rows():
    failing = [row.id for row in paper.rows(1) if row.published.fails]
    assert failing == ["plain", "scaling-0.5-1", "exclusive-gating-0-to-5", "dropout"]
    assert all(str(row.published) == "fail" for row in paper.rows(1, failing))


def test_the_best_result_has_its_spread():
    (row,) = paper.rows(4, ["cifar10-1001-pre-activation-batch-64"])
    assert str(row.published) == "4.62 (4.69 ± 0.20)"
    assert row.protocol.batch == 64


def test_one_row_sums_up_six_biases():
    (row,) = paper.rows(1, ["exclusive-gating-0-to-5"])
    assert [dict(spec.shortcut.options)["bias"] for spec in row.networks.values()] == [0, -1, -2, -3, -4, -5]


def test_ids_are_unique_and_baselines_are_there():
    for table in paper.TABLES:
        rows = paper.rows(table)
        ids = {row.id for row in rows}
        assert len(ids) == len(rows)
        assert all(row.baseline in ids | {None} for row in rows)


def test_the_same_recipe_has_the_same_home():
    places = [(1, "original"), (2, "110-original"), (3, "cifar10-110-original"), (4, "cifar10-110-original")]
    homes = {paper.home(*paper.rows(table, [id])) for table, id in places}
    assert [(row.table, row.id, variant) for row, variant in homes] == [(1, "original", "")]
    (small,) = paper.rows(4, ["cifar10-1001-pre-activation-batch-64"])
    assert paper.home(small)[0].table == 4  # another batch is another recipe


def test_a_plan_trains_each_recipe_once_seed_by_seed():
    runs = plan(paper.rows(), "smoke", 2)
    assert len({run.recipe for run in runs if run.seed == 0}) == len(runs) // 2
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    with pytest.raises(UsageError, match="seeds must be 1 or more.*got 0"):
        plan(paper.rows(1), "smoke", 0)


@pytest.mark.parametrize(
    "table, ids, message",
    [
        (7, (), "table or study must be one of: .*got '7'"),
        (2, ["164-ful-pre-activation"], "row of Table 2 must be one of: 164-full-pre-activation, .*110-original"),
        (1, ["dropuot"], "row of Table 1 must be one of: dropout, .*got 'dropuot'"),
    ],
)
def test_unknown_names_list_the_valid_ones_closest_first(table, ids, message):
    with pytest.raises(UsageError, match=message):
        paper.rows(table, ids)
