"""The paper's networks: a specification as plain data, and the module that it describes.

cifar_resnet(110)                                   the baseline of Table 1
cifar_resnet(164, order="full pre-activation")      Table 2's best
imagenet_resnet(200, order="full pre-activation")   Table 5's best
"""

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from ..errors import UsageError, choose
from .orders import CHAIN, order
from .shortcuts import Gate, Shortcut, shortcut
from .units import Conv, ResidualUnit, chain

# convs per unit and how many times wider than its 3x3 layer a unit's output is
BRANCHES = {"one-layer": (1, 1), "basic": (2, 1), "bottleneck": (3, 4)}

PAPER_DEPTHS = {"one-layer": (110,), "basic": (20, 56, 110), "bottleneck": (164, 1001)}  # of CIFAR nets

# ImageNet's units per stage, from the first ResNet paper's Table 1; ResNet-200 has 16 more than ResNet-152 on 28x28
IMAGENET_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides a network but its weights. Equal specs build equal networks; the fields are plain JSON.

    depth, branch: weight layers in all, counting the stem's and the classifier but no shortcut's; a unit's kind.
    order, shortcut: Fig. 4 by name; Fig. 2.
    widths: channels of the 3x3 layers of each stage; the stem has the first of them.
    resize: "pad" (option A of [1], the paper's choice for basic nets) or "projection" (its choice for bottlenecks).
    projection_bn: BN after a projection; None: as the order has it.
    stride_on: the bottleneck's conv that carries a stage's stride: "first" (the authors' code) or "3x3" (torchvision).
    opening: where a stage opener's activation lies: before the split, on "both" paths (appendix), or on the residual
    "branch" alone, with the shortcut reading the raw signal (the released Torch7 ResNet-200; see `foreign`).
    stem: "cifar" (a 3x3 conv) or "imagenet" (7x7 at stride 2, then 3x3 max pooling at stride 2).
    classes, channels: of the classifier's output and of the input image.
    """

    depth: int
    branch: str = "basic"
    order: str = "original"
    shortcut: Shortcut = Shortcut()
    widths: tuple = (16, 32, 64)
    resize: str = "pad"
    projection_bn: bool | None = None
    stride_on: str = "first"
    opening: str = "both"
    stem: str = "cifar"
    classes: int = 10
    channels: int = 3

    def __post_init__(self):
        if not isinstance(self.depth, int):
            raise UsageError(f"depth must be a whole number of layers; got {self.depth!r}")
        choose(self.branch, BRANCHES, "branch")
        order(self.order)
        choose(self.resize, ("pad", "projection"), "resize")
        choose(self.stride_on, ("first", "3x3"), "stride_on")
        choose(self.opening, ("both", "branch"), "opening")
        choose(self.stem, ("cifar", "imagenet"), "stem")
        _ = self.units  # an impossible depth is refused here, not when the network is built

    @property
    def units(self):
        """Residual Units of each stage."""
        if self.stem == "imagenet":
            units = IMAGENET_UNITS[choose(self.depth, IMAGENET_UNITS, "ImageNet depth")]
            if len(self.widths) != len(units):
                raise UsageError(f"widths must be one a stage, {len(units)} of them; got {self.widths}")
            return units
        if not self.widths:
            raise UsageError("widths must be one a stage, one stage or more; got none")
        convs, stages = BRANCHES[self.branch][0], len(self.widths)
        units, rest = divmod(self.depth - 2, convs * stages)  # 3n+2, 6n+2 or 9n+2
        if rest or units < 1:
            step, net = convs * stages, f"{self.branch} net" + (f" of {stages} stages" if stages != 3 else "")
            examples = PAPER_DEPTHS[self.branch] if stages == 3 else [n * step + 2 for n in (1, 2, 3)]
            rule = f"{step}n+2 ({', '.join(map(str, examples))})"
            raise UsageError(f"depth of a {net} must be {rule}; got {self.depth}")
        return (units,) * stages

    def convs(self, width, stride):
        """The residual branch of a unit whose 3x3 layers have `width` channels."""
        if self.branch != "bottleneck":
            return [Conv(3, width, stride)] + [Conv(3, width)] * (BRANCHES[self.branch][0] - 1)
        first, middle = (stride, 1) if self.stride_on == "first" else (1, stride)
        return [Conv(1, width, first), Conv(3, width, middle), Conv(1, 4 * width)]

    def build(self):
        """The network, with PyTorch's initial weights: `initialise` gives it the paper's."""
        return ResNet(self)

    def __str__(self):
        name = f"ResNet-{self.depth}" + ("(1layer)" if self.branch == "one-layer" else "")
        return f"{name}, {self.order}" + ("" if self.shortcut == Shortcut() else f", {self.shortcut}")

    def to_json(self):
        """The fields as plain JSON types."""
        plain = asdict(self) | {
            "widths": list(self.widths),
            "shortcut": {"kind": self.shortcut.kind} | dict(self.shortcut.options),
        }
        if self.opening == "both":
            del plain["opening"]  # the field is younger than the first records, whose recipe hashes stay as they are
        return plain

    @classmethod
    def from_json(cls, plain):
        """The spec of which `plain` is the `to_json`. Raises UsageError for what is none."""
        if not isinstance(plain, dict) or "depth" not in plain:
            raise UsageError(f"a network's spec must be a JSON object with a depth; got {plain!r}")
        types = {field.name: field.type for field in fields(cls)}
        for name, value in plain.items():
            choose(name, types, "field of a network's spec")
            expected = {Shortcut: dict, tuple: list}.get(types[name], types[name])
            if not isinstance(value, expected) or (isinstance(value, bool) and expected is int):
                raise UsageError(f"{name} of a network's spec must be {expected}; got {value!r}")
        given = dict(plain)
        if "widths" in given:
            given["widths"] = tuple(given["widths"])
        sizes = [*given.get("widths", ()), *(given[name] for name in ("classes", "channels") if name in given)]
        if not all(type(size) is int and size > 0 for size in sizes):
            raise UsageError(f"widths, classes and channels of a network's spec must be 1 or more; got {sizes}")
        if "shortcut" in given:
            options = dict(given["shortcut"])
            given["shortcut"] = shortcut(options.pop("kind", None), **options)
        return cls(**given)


class ResNet(nn.Module):
    """The network of a spec. Images (n, channels, h, w) -> logits (n, classes), for any h and w.

    recompute: whether a training pass keeps only the inputs of stretches of units, about as many as a stretch has
    units, and computes the rest again on the way back: for a third more arithmetic the memory of about 2 sqrt(units)
    units. The gradients are the same bit for bit; see `BatchNorm2d` for the running statistics.
    """

    recompute = False

    def __init__(self, spec):
        super().__init__()
        self.spec, units_order = spec, order(spec.order)
        width, expansion = spec.widths[0], BRANCHES[spec.branch][1]
        stem = Conv(3, width) if spec.stem == "cifar" else Conv(7, width, 2)
        self.stem = chain(CHAIN, spec.channels, [stem])
        if spec.stem == "imagenet":
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        units, channels = [], width
        for stage, (width, count) in enumerate(zip(spec.widths, spec.units, strict=True)):
            for position in range(count):
                convs = spec.convs(width, 2 if stage > 0 and position == 0 else 1)
                how = (units_order, spec.shortcut, spec.resize, spec.projection_bn, spec.opening)
                units.append(ResidualUnit(channels, convs, *how, first=not units))
                channels = width * expansion
        self.units = nn.Sequential(*units)
        self.tail = chain(units_order.lead, channels)  # the last unit's extra activation (appendix)
        self.classifier = nn.Linear(channels, spec.classes)

    def forward(self, images):
        x = self.stem(images)
        return self.head(self._recomputed(x) if self.recompute and self.training else self.units(x))

    def head(self, x):
        """From what the last unit puts out to logits."""
        return self.classifier(self.tail(x).mean((2, 3)))

    def _recomputed(self, x):
        stretches, draws = math.isqrt(len(self.units)), self.spec.shortcut.kind == "dropout"
        return checkpoint_sequential(self.units, stretches, x, use_reentrant=False, preserve_rng_state=draws)


def initialise(network, generator=None):
    """Initial weights "as in [23]" (appendix), in place, drawn from `generator`; returns the network.

    Convs: normal with variance 2 / (k k c_out), the fan-out form that the authors' code uses. BN: scale 1, shift 0.
    Classifier: uniform in +-1/sqrt(c_in), bias 0, as there. A gate's b_g: the value of its row of Table 1.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Gate):
            nn.init.constant_(module.bias, module.initial_bias)
    return network


def bn_eps(network):
    """The epsilon of the network's BN layers, which is one for all of them; PyTorch's default without BN."""
    return next((module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)), 1e-5)


def set_bn_eps(network, eps):
    """Give every BN of the network that epsilon."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def cifar_resnet(depth, *, seed=None, **choices):
    """A CIFAR network by depth, initialised as in the paper.

    `choices` are fields of NetworkSpec. Depths of 164 and 1001 are the paper's bottlenecks and all others basic
    nets, unless `branch` says otherwise. `seed` fixes the initial weights; None draws them from torch's generator.
    """
    return initialised(cifar_spec(depth, **choices), seed)


def cifar_spec(depth, **choices):
    """The NetworkSpec of `cifar_resnet`: the paper's branch for the depth, and its way of changing dimensions."""
    branch = choices.pop("branch", "bottleneck" if depth in (164, 1001) else "basic")
    resize = choices.pop("resize", "projection" if branch == "bottleneck" else "pad")
    return NetworkSpec(depth, branch=branch, resize=resize, **choices)


def imagenet_resnet(depth, *, seed=None, **choices):
    """An ImageNet network of 50, 101, 152 or 200 layers, initialised as in the paper; arguments as `cifar_resnet`'s."""
    return initialised(imagenet_spec(depth, **choices), seed)


def imagenet_spec(depth, **choices):
    """The NetworkSpec of `imagenet_resnet`."""
    defaults = {"branch": "bottleneck", "resize": "projection", "widths": (64, 128, 256, 512), "classes": 1000}
    return NetworkSpec(depth, stem="imagenet", **defaults | choices)


def initialised(spec, seed=None):
    """The network of a spec with the paper's initial weights; `seed` as in `cifar_resnet`."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return initialise(spec.build(), generator)
