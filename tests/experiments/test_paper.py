"""The tables against numbers copied from the paper's pages, and each recipe's single home."""

import pytest

from identity_mappings import UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.runs import plan

TABLE_1 = [6.61, None, None, 12.35, None, 8.70, 9.81, 12.86, 6.91, 12.22, None]
TABLE_2 = {110: [6.61, 8.17, 7.84, 6.71, 6.37], 164: [5.93, 6.50, 6.14, 5.91, 5.46]}
TABLE_3 = [9.90, 8.91, 6.61, 6.37, 5.93, 5.46, 7.61, 4.92, 25.16, 24.33, 27.82, 22.71]

# Table 5 as its page has it: net, unit, augmentation, crops of training and test, top-1, top-5
TABLE_5 = """
152 original scale           224 224  23.0 6.7
152 original scale           224 320  21.3 5.5
152 pre-act  scale           224 320  21.1 5.5
200 original scale           224 320  21.8 6.0
200 pre-act  scale           224 320  20.7 5.3
200 pre-act  scale+asp-ratio 224 320  20.1 4.8
v3  -        scale+asp-ratio 299 299  21.2 5.6
"""


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
    with pytest.raises(UsageError, match="number of seeds .* must be a whole number from 1 to 10,000; got 0"):
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


def test_table_5_as_printed():
    lines = [line.split() for line in TABLE_5.split("\n")[1:-1]]
    *ours, (_, _, augmentation, _, _, top1, top5) = lines
    (quoted,) = [cited for cited in paper.CITED if cited.dataset == "imagenet"]
    assert (quoted.method, quoted.error, quoted.top5) == ("Inception v3", float(top1), float(top5))
    for (depth, unit, augmentation, crop, test_crop, top1, top5), row in zip(ours, paper.rows(5), strict=False):
        network, test = row.networks[""], dict(zip(("trained", "larger"), row.protocol.tests, strict=True))[row.crop]
        assert (network.depth, network.order) == (int(depth), {"pre-act": "full pre-activation"}.get(unit, unit))
        assert (network.stem, network.classes, network.branch) == ("imagenet", 1000, "bottleneck")
        assert row.protocol.augmentation.replace("scale and aspect ratio", "scale+asp-ratio") == augmentation
        assert (row.protocol.crop, test[0], test[2]) == (int(crop), row.crop, int(test_crop))
        assert str(row.published) == f"{top1} / {top5}"


def test_section_5_on_bn_after_addition():
    """ "24.6%/7.5%, vs. the original ResNet-101's 23.6%/7.1%", on a crop of 224x224."""
    found = {row.networks[""].order: (str(row.published), row.crop) for row in paper.rows(5) if "101" in row.id}
    assert found == {"BN after addition": ("24.6 / 7.5", "trained"), "original": ("23.6 / 7.1", "trained")}


def test_a_net_that_table_5_tests_at_two_crops_is_trained_once():
    both = paper.rows(5, ["152-original-224", "152-original-320"])
    assert len(plan(both, "paper", 1)) == 1 and len(plan(paper.rows(5), "paper", 1)) == 7
    made = {
        "test_error": 25.0,
        "crops": {"trained": {"top1": 25.0, "top5": 8.0}, "larger": {"top1": 22.0, "top5": 6.0}},
    }
    assert [row.errors(made) for row in both] == [(25.0, 8.0), (22.0, 6.0)]
    assert both[0].errors({"test_error": None}) == (None, None)  # diverged
