"""Questions beside the tables, as rows that are trained, kept and shown as theirs are.

gate-bias   the search of section 3.1 for the bias that a gate starts from, by cross-validation on the training set
choices     what the paper leaves open or others make differently, one departure from the recipe a row
"""

from dataclasses import dataclass, replace

from ..nets.networks import cifar_spec
from ..nets.shortcuts import shortcut
from .protocols import CIFAR, Reduction
from .rows import Row


@dataclass(frozen=True)
class Scale:
    """The size at which a study is run unless a command says otherwise: a CPU's two cores, about an hour."""

    tier: str
    seeds: int
    reduction: Reduction = Reduction()


def _gate_bias():
    """ "In the range of 0 to -10 with a decrement step of -1 on the training set by cross-validation" (section 3.1)."""
    return tuple(
        Row(
            "gate-bias",
            f"bias-{-bias}",
            f"exclusive gating, init b_g = {bias}",
            "Fig. 2(c)",
            None,
            {"": cifar_spec(110, shortcut=shortcut("exclusive gate", bias=bias))},
            folds=10,
        )
        for bias in range(0, -11, -1)
    )


def _choices():
    def row(id, case, baseline=None, spec=None, **protocol):
        spec = spec or cifar_spec(110)
        return Row("choices", id, case, "", None, {"": spec}, protocol=replace(CIFAR, **protocol), baseline=baseline)

    bottleneck = cifar_spec(164)
    gate = shortcut("shortcut-only gate", bias=-6)
    gated = cifar_spec(110, shortcut=gate)
    dropout, rescaled = (cifar_spec(110, shortcut=shortcut("dropout", p=0.5, rescale=r)) for r in (False, True))
    return (
        row("basic", "basic units, the paper's recipe"),
        row(
            "projection",
            "projections (option B) for zero-padded shortcuts (A)",
            "basic",
            cifar_spec(110, resize="projection"),
        ),
        row("bn-over-128", "BN over the 128 images of a batch, not over 64 at a time", "basic", bn_group=None),
        row("no-decay-of-bn", "no weight decay on BN's scale and shift", "basic", decay_bn=False),
        row("nesterov", "Nesterov's momentum", "basic", nesterov=True),
        row("velocity-caffe", "the learning rate inside the velocity, as in Caffe", "basic", velocity="caffe"),
        row("padding-black", "black padding, before the normalisation", "basic", pad_value="black"),
        row("channel-mean", "one mean a channel for the mean image", "basic", normalisation="channel"),
        row("bottleneck", "bottleneck units, the paper's recipe", None, bottleneck),
        row(
            "stride-on-3x3",
            "a stage's stride on the 3x3 conv, not on the first 1x1",
            "bottleneck",
            replace(bottleneck, stride_on="3x3"),
        ),
        row(
            "projection-without-bn", "no BN after a projection", "bottleneck", replace(bottleneck, projection_bn=False)
        ),
        row("dropout", "dropout shortcut, kept values as they are", None, dropout),
        row("dropout-rescaled", "kept values divided by 1 - p", "dropout", rescaled),
        row("gate", "shortcut-only gate, bias -6", None, gated),
        row(
            "gate-with-bn",
            "BN after the gate's 1x1 convolution",
            "gate",
            cifar_spec(110, shortcut=shortcut("shortcut-only gate", bias=-6, bn=True)),
        ),
        row("no-decay-of-gate-bias", "no weight decay on the gate's bias", "gate", gated, decay_gate_bias=False),
    )


STUDIES = {"gate-bias": _gate_bias(), "choices": _choices()}

TITLES = {
    "gate-bias": "Validation error by the bias that the exclusive gate starts from, ResNet-110 (section 3.1)",
    "choices": "What each choice that the paper leaves open, or others make differently, costs",
}

SCALES = {
    "gate-bias": Scale("smoke", 2),
    "choices": Scale("quick", 5, Reduction(depth=20, iterations=320, width=8)),
}
