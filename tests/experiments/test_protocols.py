"""The schedule at its corners, the smaller tiers, and the reductions that are taken and refused."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_mappings import ORDERS, UsageError, shortcut
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import (
    CIFAR,
    IMAGENET,
    POCKET,
    QUICK,
    SMOKE,
    ImageNetProtocol,
    Protocol,
    Recipe,
    Reduction,
    recipe,
)

RATES = {0: 0.01, 399: 0.01, 400: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}


@pytest.mark.parametrize("iteration, rate", RATES.items())
def test_rate(iteration, rate):
    assert CIFAR.rate(iteration) == pytest.approx(rate, rel=1e-12)


def test_the_protocol_is_the_appendixs():
    assert (CIFAR.iterations, CIFAR.batch, CIFAR.momentum, CIFAR.weight_decay) == (64_000, 128, 0.9, 1e-4)
    assert (CIFAR.pad, CIFAR.flip, CIFAR.nesterov, CIFAR.bn_group) == (4, True, False, 64)


def test_smaller_tiers_drop_at_the_same_fractions():
    assert (QUICK.iterations, QUICK.drops, QUICK.warmup) == (6_400, (3_200, 4_800), 400)
    assert (SMOKE.iterations, SMOKE.drops, SMOKE.warmup, SMOKE.batch) == (600, (300, 450), 20, 64)
    assert (SMOKE.pad, SMOKE.flip) == (0, False)
    assert (POCKET.iterations, POCKET.drops, POCKET.warmup) == (2_560, (1_280, 1_920), 100)
    assert (POCKET.batch, POCKET.bn_group, POCKET.pad) == (128, 64, 2)  # the images are half as wide


@pytest.mark.parametrize("field", ["velocity", "pad_value", "normalisation"])
def test_unknown_choices_are_refused(field):
    with pytest.raises(UsageError, match=f"{field} must be one of: .*got 'other'"):
        Protocol(**{field: "other"})


def tier_recipe(tier, reduction=Reduction(), table=1, id="original"):
    (row,) = paper.rows(table, [id])
    return recipe(row.recipe(next(iter(row.networks))), tier, reduction)


def test_what_each_tier_changes():
    full, quick, smoke = (tier_recipe(tier) for tier in ("paper", "quick", "smoke"))
    assert full.protocol == CIFAR and quick.protocol == QUICK and smoke.protocol == SMOKE
    assert full.network == quick.network and full.dataset == quick.dataset == "cifar10"
    assert (smoke.dataset, smoke.network.depth, smoke.network.channels) == ("digits", 110, 1)


@pytest.mark.parametrize(
    "table, id, dataset, widths",
    [
        (1, "conv-1x1", "cifar10-16", (8, 16, 32)),
        (3, "cifar10-110-1layer-original", "cifar10-16", (8, 16, 32)),
        (3, "cifar100-164-original", "cifar100-16", (4, 8, 16)),
        (3, "cifar10-1001-original", "cifar10-16", (4, 8, 16)),
    ],
)
def test_the_pocket_tier_narrows_the_net_and_halves_the_images(table, id, dataset, widths):
    paper_recipe, pocket = (tier_recipe(tier, table=table, id=id) for tier in ("paper", "pocket"))
    assert (pocket.dataset, pocket.network.widths, pocket.protocol) == (dataset, widths, POCKET)
    assert replace(pocket.network, widths=paper_recipe.network.widths) == paper_recipe.network


def test_the_pocket_tier_keeps_what_a_row_changes():
    changes = {"batch": 64, "weight_decay": 1e-3, "normalisation": "channel", "velocity": "caffe"}
    network = tier_recipe("paper").network
    pocket = recipe(Recipe("cifar10", network, replace(CIFAR, **changes)), "pocket").protocol
    assert pocket == replace(POCKET, **changes)


@pytest.mark.parametrize(
    "table, id, dataset, iterations, batch",
    [
        (3, "cifar100-164-original", "digit-pairs", 300, 64),
        (3, "cifar10-1001-pre-activation", "digits", 150, 64),
        (4, "cifar10-1001-pre-activation-batch-64", "digits", 150, 32),
    ],
)
def test_smoke_of_the_larger_rows(table, id, dataset, iterations, batch):
    smoke = tier_recipe("smoke", table=table, id=id)
    assert (smoke.dataset, smoke.protocol.iterations, smoke.protocol.batch) == (dataset, iterations, batch)


@pytest.mark.parametrize(
    "table, id, widths, iterations",
    [
        (1, "original", (8, 16, 32), 600),
        (3, "cifar10-110-1layer-original", (8, 16, 32), 600),
        (3, "cifar10-164-original", (4, 8, 16), 300),
        (3, "cifar10-1001-original", (4, 8, 16), 150),
        (4, "cifar10-1202-original", (8, 16, 32), 150),
    ],
)
def test_widths_and_iterations_of_the_smoke_tier(table, id, widths, iterations):
    smoke = tier_recipe("smoke", table=table, id=id)
    assert (smoke.network.widths, smoke.protocol.iterations) == (widths, iterations)


def test_the_smoke_tier_keeps_what_a_row_changes():
    """Larger or smaller than the protocol's: what sets a row apart must not be lost on the digits."""
    changes = {"weight_decay": 1e-3, "momentum": 0.5, "normalisation": "channel", "velocity": "caffe"}
    network = tier_recipe("paper").network
    smoke = recipe(Recipe("cifar10", network, replace(CIFAR, **changes)), "smoke").protocol
    assert smoke == replace(SMOKE, **changes)


def test_the_released_codes_recipe():
    """200 epochs of 50,000 images in batches of 64, and drops when 80 and 121 are over; tiers keep these fractions."""
    (row,) = paper.rows(4, ["cifar10-1001-pre-activation-batch-64-released"])
    released = row.protocol
    assert released.iterations * 64 == 200 * 50_000
    assert [round(drop * 64 / 50_000, 2) for drop in released.drops] == [80, 121]
    assert [released.rate(i) for i in (0, 62_499, 62_500, 156_249)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    (appendix,) = paper.rows(4, ["cifar10-1001-pre-activation-batch-64"])
    assert row.networks == appendix.networks and row.published == appendix.published
    for tier, iterations, batch in (("smoke", 150, 32), ("pocket", 6_250, 64), ("quick", 15_625, 64)):
        cut = tier_recipe(tier, table=4, id=row.id).protocol
        assert (cut.iterations, cut.batch, cut.warmup, cut.nesterov) == (iterations, batch, 0, True)
        fractions = [drop / cut.iterations for drop in cut.drops]
        assert fractions == pytest.approx([80 / 200, 121 / 200], abs=1 / cut.iterations)


def test_schedules_are_whole_numbers():
    """A recipe's hash is that of its JSON, in which 3200 and 3200.0 differ; halves are cut off."""
    for protocol in (QUICK, SMOKE, tier_recipe("quick", Reduction(iterations=1_000)).protocol):
        counts = [protocol.iterations, protocol.batch, protocol.warmup, *protocol.drops]
        assert [type(count) for count in counts] == [int] * 5
    small = tier_recipe("smoke", table=4, id="cifar10-1001-pre-activation-batch-64").protocol
    assert type(small.batch) is int
    assert CIFAR.shortened(7).drops == (3, 5)
    assert tier_recipe("quick", Reduction(iterations=1)).protocol.warmup == 0


def test_a_protocol_as_json():
    saved = CIFAR.to_json()
    assert saved["drops"] == [32_000, 48_000] and saved["batch"] == 128
    assert set(saved) == {field.name for field in fields(CIFAR)}


def test_a_reduction_shortens_the_schedule_and_the_net():
    reduced = tier_recipe("quick", Reduction(20, 320))
    assert reduced.network.depth == 20
    assert (reduced.protocol.iterations, reduced.protocol.drops, reduced.protocol.warmup) == (320, (160, 240), 20)
    for width in (1, 6, 15):  # as text, in which 6 and 6.0 differ: widths go into a recipe's hash
        assert str(tier_recipe("quick", Reduction(width=width)).network.widths) == str((width, 2 * width, 4 * width))


@pytest.mark.parametrize(
    "tier, reduction, message",
    [
        ("paper", Reduction(depth=20), "paper tier is the paper's recipe; got 20 layers"),
        ("quick", Reduction(depth=110), "depth must be below the row's 110; got 110"),
        ("quick", Reduction(depth=200), "depth must be below the row's 110; got 200"),
        ("quick", Reduction(depth=21), "6n\\+2 .*got 21"),
        ("quick", Reduction(iterations=6_400), "from 1 to 6399, below the quick tier's; got 6400"),
        ("smoke", Reduction(iterations=600), "from 1 to 599, below the smoke tier's; got 600"),
        ("quick", Reduction(iterations=64_000), "from 1 to 6399, below the quick tier's; got 64000"),
        ("smoke", Reduction(iterations=-5), "from 1 to 599.*got -5"),
        ("smoke", Reduction(iterations=0), "from 1 to 599.*got 0"),
        ("quick", Reduction(width=16), "width must be from 1 to 15, below the quick tier's; got 16"),
        ("quick", Reduction(width=17), "width must be from 1 to 15, below the quick tier's; got 17"),
        ("quick", Reduction(width=0), "width must be from 1 to 15, below the quick tier's; got 0"),
        ("quick", Reduction(width=-1), "width must be from 1 to 15, below the quick tier's; got -1"),
        ("large", Reduction(), "tier must be one of: .*got 'large'"),
    ],
)
def test_refused(tier, reduction, message):
    with pytest.raises(UsageError, match=message):
        tier_recipe(tier, reduction)


sizes = st.none() | st.integers(min_value=1, max_value=10**6)


@given(sizes, sizes, sizes)
def test_a_reduction_comes_back_from_its_name(depth, iterations, width):
    reduction = Reduction(depth, iterations, width)
    assert Reduction.parse(reduction.name) == reduction


def test_names_of_reductions():
    assert Reduction(20, 3_200).name == "depth-20-iterations-3200"
    assert str(Reduction(20, 3_200)) == "20 layers, 3,200 iterations"
    assert Reduction().name == str(Reduction()) == ""


@pytest.mark.parametrize(
    "name",
    ["depth", "depth-", "depth-x", "depth--1", "depth-8-", "iterations-5-depth-8", "-iterations-5", "depth-8 ", "old"],
)
def test_a_name_that_is_no_reductions_is_refused(name):
    assert not Reduction.names(name)
    with pytest.raises(UsageError, match='a reduction is named like "depth-20", .*got ') as caught:
        Reduction.parse(name)
    assert str(caught.value).endswith(f"got {name!r}")


def test_imagenets_protocol_is_the_appendixs():
    assert (IMAGENET.batch, IMAGENET.bn_group, IMAGENET.momentum, IMAGENET.weight_decay) == (256, 32, 0.9, 1e-4)
    epochs = [iterations * 256 / 1_281_167 for iterations in (*IMAGENET.drops, IMAGENET.iterations)]
    assert epochs == pytest.approx([30, 60, 90], abs=1e-3)
    rates = [IMAGENET.rate(iteration) for iteration in (0, IMAGENET.drops[0] - 1, *IMAGENET.drops)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])  # "no warming up"
    assert (IMAGENET.crop, IMAGENET.shorter, IMAGENET.nesterov) == (224, (256, 480), False)
    with pytest.raises(UsageError, match="augmentation must be one of: .*got 'other'"):
        ImageNetProtocol(augmentation="other")


@pytest.mark.parametrize("tier", ["smoke", "pocket", "quick"])
def test_the_small_tiers_of_table_5_keep_what_sets_a_row_apart(tier):
    rows = paper.rows(5)
    small = [recipe(row.recipe(), tier) for row in rows]
    assert [each.network.depth for each in small] == [row.networks[""].depth for row in rows]
    assert [each.network.order for each in small] == [row.networks[""].order for row in rows]
    assert [each.protocol.augmentation for each in small] == [row.protocol.augmentation for row in rows]
    assert [each.protocol.jitter for each in small] == [row.protocol.jitter for row in rows]
    classes, batch, iterations = {"smoke": (10, 64, 200), "pocket": (10, 64, 2_000), "quick": (100, 256, 45_041)}[tier]
    assert {(each.network.classes, each.protocol.batch, each.protocol.iterations) for each in small} == {
        (classes, batch, iterations)
    }
    for each in small:
        assert each.protocol.bn_group == 32
        thirds = [round(3 * drop / each.protocol.iterations, 2) for drop in each.protocol.drops]
        assert thirds == pytest.approx([1, 2], abs=0.03)
        ratios = [side / each.protocol.crop for side in (*each.protocol.shorter, *each.protocol.tests[1][1:])]
        assert ratios == pytest.approx([256 / 224, 480 / 224, 320 / 224, 320 / 224], abs=0.01)


SPECIFICATIONS = [CIFAR, IMAGENET, Reduction(8), *ORDERS.values(), shortcut("dropout", p=0.5)]
SPECIFICATIONS += [tier_recipe("paper"), tier_recipe("paper").network]


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=lambda each: type(each).__name__)
def test_specifications_cannot_be_changed(specification):
    """They are keys: equal ones hash alike, and none changes under a table or a file name made from it."""
    assert hash(specification) == hash(replace(specification)) and specification == replace(specification)
    with pytest.raises(FrozenInstanceError):
        setattr(specification, fields(specification)[0].name, None)
