"""Tables 1 to 5: every row once, with the paper's number beside the recipe that is to give it.

The command line, the notebooks, the status, the book and the tests all iterate over `TABLES`; nothing else names a row.
A result that several tables print (ResNet-110's 6.61 % stands in four) is one recipe, and is trained once; so is one
that Table 5 prints at two test crops.
"""

from dataclasses import dataclass, replace

from ..errors import choose
from ..nets.networks import cifar_spec, imagenet_spec
from ..nets.orders import ORDERS
from ..nets.shortcuts import shortcut
from .protocols import CIFAR, IMAGENET, IMAGENET_ASPECT, RELEASED
from .rows import FAIL, Published, Row
from .studies import STUDIES


@dataclass(frozen=True)
class Cited:
    """Another method's result that Table 4 or 5 quotes, as printed; not ours to reproduce."""

    dataset: str
    method: str
    error: float
    top5: float | None = None


def _table_1():
    def row(id, case, panel, error, spec, h, f, remark="", claim="worse"):
        networks = spec if isinstance(spec, dict) else {"": spec}
        networks = {variant: cifar_spec(110, shortcut=s) for variant, s in networks.items()}
        baseline = None if id == "original" else "original"
        published = FAIL if error is None else Published(error)
        claim = "fails" if error is None else claim
        return Row(
            1, id, case, f"Fig. 2({panel})", published, networks,
            on_shortcut=h, on_residual=f, remark=remark, baseline=baseline, claim=claim,
        )  # fmt: skip

    def scaled(a, b):
        return shortcut("scaled", a=a, b=b)

    def exclusive(bias):
        return shortcut("exclusive gate", bias=bias)

    def only(bias):
        return shortcut("shortcut-only gate", bias=bias)

    scaling, exclusive_case, only_case = "constant scaling", "exclusive gating", "shortcut-only gating"
    up_to_5 = {f"bias-{-bias}": exclusive(bias) for bias in range(0, -6, -1)}
    return (
        row("original", "original", "a", 6.61, shortcut(), "1", "1", claim=None),
        row("plain", scaling, "b", None, scaled(0, 1), "0", "1", "This is a plain net"),
        row("scaling-0.5-1", scaling, "b", None, scaled(0.5, 1), "0.5", "1"),
        row("scaling-0.5-0.5", scaling, "b", 12.35, scaled(0.5, 0.5), "0.5", "0.5", "frozen gating"),
        row("exclusive-gating-0-to-5", exclusive_case, "c", None, up_to_5, "1 - g(x)", "g(x)", "init b_g = 0 to -5"),
        row("exclusive-gating-6", exclusive_case, "c", 8.70, exclusive(-6), "1 - g(x)", "g(x)", "init b_g = -6"),
        row("exclusive-gating-7", exclusive_case, "c", 9.81, exclusive(-7), "1 - g(x)", "g(x)", "init b_g = -7"),
        row("shortcut-gating-0", only_case, "d", 12.86, only(0), "1 - g(x)", "1", "init b_g = 0"),
        row("shortcut-gating-6", only_case, "d", 6.91, only(-6), "1 - g(x)", "1", "init b_g = -6", claim="near"),
        row("conv-1x1", "1x1 conv shortcut", "e", 12.22, shortcut("1x1 conv"), "1x1 conv", "1"),
        row("dropout", "dropout shortcut", "f", None, shortcut("dropout", p=0.5), "dropout 0.5", "1"),
    )


def _table_2():
    cells = {
        "original": (6.61, 5.93, None),
        "BN after addition": (8.17, 6.50, "worse"),
        "ReLU before addition": (7.84, 6.14, "worse"),
        "ReLU-only pre-activation": (6.71, 5.91, "near"),
        "full pre-activation": (6.37, 5.46, "better"),
    }
    return tuple(
        Row(
            2,
            f"{depth}-{_slug(order)}",
            f"ResNet-{depth}, {order}",
            ORDERS[order].figure,
            Published(errors[column]),
            {"": cifar_spec(depth, order=order)},
            baseline=None if claim is None else f"{depth}-original",
            claim=claim,
        )
        for column, depth in enumerate((110, 164))
        for order, (*errors, claim) in cells.items()
    )


def _table_3():
    cells = (
        ("cifar10", 110, "one-layer", 9.90, 8.91),
        ("cifar10", 110, "basic", 6.61, 6.37),
        ("cifar10", 164, "bottleneck", 5.93, 5.46),
        ("cifar10", 1001, "bottleneck", 7.61, 4.92),
        ("cifar100", 164, "bottleneck", 25.16, 24.33),
        ("cifar100", 1001, "bottleneck", 27.82, 22.71),
    )
    rows = []
    for dataset, depth, branch, original, pre_activation in cells:
        stem = f"{dataset}-{depth}" + ("-1layer" if branch == "one-layer" else "")
        rows += [
            _pair_row(3, f"{stem}-original", dataset, depth, branch, "original", original),
            replace(
                _pair_row(3, f"{stem}-pre-activation", dataset, depth, branch, "full pre-activation", pre_activation),
                baseline=f"{stem}-original",
                claim="better",
            ),
        ]
    return tuple(rows)


def _table_4():
    def row(dataset, depth, order, error, mean=None, std=None):
        branch = "bottleneck" if depth in (164, 1001) else "basic"
        suffix = "original" if order == "original" else "pre-activation"
        made = _pair_row(4, f"{dataset}-{depth}-{suffix}", dataset, depth, branch, order, error)
        return replace(made, published=Published(error, mean, std))

    ours = "full pre-activation"
    small_batch = row("cifar10", 1001, ours, 4.62, 4.69, 0.20)
    return (
        row("cifar10", 110, "original", 6.61),
        row("cifar10", 1202, "original", 7.93),
        row("cifar10", 164, ours, 5.46),
        row("cifar10", 1001, ours, 4.92, 4.89, 0.14),
        replace(
            small_batch,
            id=f"{small_batch.id}-batch-64",
            protocol=replace(CIFAR, batch=64, bn_group=32),
            remark="mini-batch of 64, the appendix's 64k iterations",
        ),
        replace(
            small_batch,
            id=f"{small_batch.id}-batch-64-released",
            protocol=RELEASED,
            remark="mini-batch of 64, the released code's 200 epochs",  # for this row the caption points to that code
        ),
        row("cifar100", 164, "original", 25.16),
        row("cifar100", 1001, "original", 27.82),
        row("cifar100", 164, ours, 24.33),
        row("cifar100", 1001, ours, 22.71, 22.68, 0.22),
    )


def _pair_row(table, id, dataset, depth, branch, order, error):
    classes = 100 if dataset == "cifar100" else 10
    spec = cifar_spec(depth, branch=branch, order=order, classes=classes)
    label = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[dataset]
    return Row(table, id, f"{label}, {spec}", ORDERS[order].figure, Published(error), {"": spec}, dataset=dataset)


def _table_5():
    """Table 5, and after it the two results on ImageNet that section 5 gives in its text."""

    def row(depth, order, test_crop, top1, top5, baseline=None, claim=None, protocol=IMAGENET, **about):
        unit = {"original": "original", "full pre-activation": "pre-activation"}.get(order, _slug(order))
        ending = "-aspect-ratio" if protocol == IMAGENET_ASPECT else ""
        spec = imagenet_spec(depth, order=order)
        published = Published(top1, top5=top5, runs=1)
        return Row(
            5, f"{depth}-{unit}-{test_crop}{ending}", f"{spec}, tested at {test_crop}x{test_crop}",
            ORDERS[order].figure, published, {"": spec}, "imagenet", protocol, baseline=baseline, claim=claim,
            crop={224: "trained", 320: "larger"}[test_crop], **about,
        )  # fmt: skip

    pre, said = "full pre-activation", "section 5's text"
    return (
        row(152, "original", 224, 23.0, 6.7),
        row(152, "original", 320, 21.3, 5.5, "152-original-224", "better"),
        row(152, pre, 320, 21.1, 5.5, "152-original-320", "better"),
        row(200, "original", 320, 21.8, 6.0, "152-original-320", "worse"),
        row(200, pre, 320, 20.7, 5.3, "200-original-320", "better"),
        row(
            200, pre, 320, 20.1, 4.8, "200-pre-activation-320", "better", IMAGENET_ASPECT,
            remark="its weights were released",
        ),
        row(101, "original", 224, 23.6, 7.1, remark=said),
        row(101, "BN after addition", 224, 24.6, 7.5, "101-original-224", "worse", remark=said),
    )  # fmt: skip


def _slug(name):
    return name.lower().replace(" ", "-")


TABLES = {1: _table_1(), 2: _table_2(), 3: _table_3(), 4: _table_4(), 5: _table_5()}

TITLES = {
    1: "Classification error on the CIFAR-10 test set, ResNet-110 with different shortcuts",
    2: "Classification error on the CIFAR-10 test set, different orders of activation",
    3: "Classification error on the CIFAR-10/100 test sets, original and pre-activation units",
    4: "Comparison on CIFAR-10 and CIFAR-100 with other methods of the time",
    5: "Top-1 / top-5 error of a single crop on the ILSVRC 2012 validation set",
}

CITED = tuple(
    Cited(dataset, method, error)
    for dataset, results in {
        "cifar10": {
            "NIN": 8.81, "DSN": 8.22, "FitNet": 8.39, "Highway": 7.72, "All-CNN": 7.25, "ELU": 6.55,
            "FitResNet, LSUV": 5.84,
        },
        "cifar100": {
            "NIN": 35.68, "DSN": 34.57, "FitNet": 35.04, "Highway": 32.39, "All-CNN": 33.71, "ELU": 24.28,
            "FitNet, LSUV": 27.66,
        },
    }.items()
    for method, error in results.items()
)  # fmt: skip
CITED += (Cited("imagenet", "Inception v3", 21.2, 5.6),)


GROUPS = TABLES | STUDIES


def rows(group=None, ids=()):
    """The rows of a table or study, all or those of the given ids; of all of them where `group` is None.

    Raises UsageError for a table, study or row that is not there.
    """
    if group is None:
        return [row for rows in GROUPS.values() for row in rows]
    group = named(group)
    found = {row.id: row for row in GROUPS[group]}
    return [found[choose(id, found, f"row of {label(group)}")] for id in ids] if ids else list(found.values())


def named(group):
    """The key in GROUPS of a table or study as a user writes it. Raises UsageError for one that is not there."""
    return {str(key): key for key in GROUPS}[choose(str(group), [str(key) for key in GROUPS], "table or study")]


def label(group):
    """How a table or study is called."""
    return f"Table {group}" if isinstance(group, int) else f"Study {group}"


def home(row, variant=""):
    """(row, variant) under which a recipe's runs are kept: the first in the groups' order that has the same recipe."""
    recipe = row.recipe(variant)
    return next((r, v) for r in rows() for v in r.networks if r.recipe(v) == recipe)
