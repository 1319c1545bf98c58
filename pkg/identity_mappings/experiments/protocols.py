"""How a network is trained: the appendix's two protocols, CIFAR's and ImageNet's, and the smaller tiers.

Every field that papers and libraries fill in differently has a name here, the paper's choice as its default, and a
line on why. Iterations are counted, never epochs: the paper's 64k are 163.84 passes over CIFAR's 50,000 images.
"""

import re
from dataclasses import asdict, dataclass, fields, replace
from functools import cache

from ..errors import UsageError, choose


@dataclass(frozen=True)
class Training:
    """Schedule, optimiser and BN of a training. The defaults are the paper's on CIFAR (appendix, and [1])."""

    iterations: int = 64_000
    batch: int = 128
    learning_rate: float = 0.1
    warmup: int = 400  # iterations at `warmup_rate`, then `learning_rate` at once
    warmup_rate: float = 0.01
    drops: tuple = (32_000, 48_000)  # iterations from which the rate is ten times smaller
    momentum: float = 0.9
    nesterov: bool = False  # the paper speaks of momentum; the authors' later Torch code uses Nesterov's
    velocity: str = "pytorch"  # v = m v + g, w -= rate v; "caffe": v = m v + rate g, w -= v, as the paper's runs had it
    weight_decay: float = 1e-4  # added to the gradient as 1e-4 w, SGD's sense; an l2(1e-4) loss term is twice that
    decay_bn: bool = True  # BN's scale and shift decay too: the authors' Torch code decays every parameter
    decay_gate_bias: bool = True  # so does a gate's swept bias, for the same reason
    bn_group: int | None = 64  # "128 on 2 GPUs (64 each)": images that BN normalises together; None: the batch
    bn_momentum: float = 0.1  # of the running statistics: Torch's default, in the authors' code; the paper is silent
    bn_eps: float = 1e-5  # as bn_momentum

    def __post_init__(self):
        choose(self.velocity, ("pytorch", "caffe"), "velocity")

    def rate(self, iteration):
        """The learning rate of that iteration, counted from 0."""
        if iteration < self.warmup:
            return self.warmup_rate
        return self.learning_rate / 10 ** sum(iteration >= drop for drop in self.drops)

    def shortened(self, iterations, warmup=None):
        """The same protocol over fewer iterations, with the drops at the same fractions of them."""
        drops = tuple(drop * iterations // self.iterations for drop in self.drops)
        return replace(self, iterations=iterations, drops=drops, warmup=self.warmup if warmup is None else warmup)

    def to_json(self):
        """The fields as plain JSON types."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value):
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Protocol(Training):
    """One way of training on CIFAR. The defaults are the paper's (appendix, and the first ResNet paper [1])."""

    pad: int = 4
    pad_value: str = "mean"  # zeros around the normalised image, [1]; "black": around the raw one
    flip: bool = True
    normalisation: str = "pixel"  # [1] subtracts the mean image; "channel": the authors' Torch code

    def __post_init__(self):
        super().__post_init__()
        choose(self.pad_value, ("mean", "black"), "pad_value")
        choose(self.normalisation, ("pixel", "channel"), "normalisation")

    @property
    def words(self):
        """The augmentation as a page names it."""
        return " and ".join([f"shifts of up to {self.pad} pixels"] * bool(self.pad) + ["flips"] * self.flip) or "none"


@dataclass(frozen=True)
class ImageNetProtocol(Training):
    """One way of training on ImageNet. The defaults are the paper's (section 5, appendix, and [1])."""

    iterations: int = 1_281_167 * 90 // 256  # the paper names the drops alone; the Torch code it points to ends at 90
    batch: int = 256
    warmup: int = 0  # "no warming up"
    drops: tuple = (1_281_167 * 30 // 256, 1_281_167 * 60 // 256)  # "at 30 and 60 epochs"
    bn_group: int | None = 32  # "256 on 8 GPUs (32 each)"
    crop: int = 224
    augmentation: str = "scale"  # [1]: a crop of the picture at a random scale; or "scale and aspect ratio", of [20]
    shorter: tuple = (256, 480)  # pixels: the shorter side, drawn between these for "scale"
    area: tuple = (0.08, 1.0)  # of the picture, and aspect: the rectangle that "scale and aspect ratio" draws;
    aspect: tuple = (3 / 4, 4 / 3)  # GoogLeNet [20] as fb.resnet.torch has it
    flip: bool = True
    lighting: float = 0.1  # AlexNet's colour augmentation, which [1] calls standard: along the components of RGB
    jitter: float = 0.0  # of brightness, contrast and saturation; fb.resnet.torch, whose row has it: 0.4
    mean: tuple = (0.485, 0.456, 0.406)  # of red, green and blue from 0 to 1, and std: fb.resnet.torch's; [1] subtracts
    std: tuple = (0.229, 0.224, 0.225)  # the mean image
    tests: tuple = (("trained", 256, 224), ("larger", 320, 320))  # (name, shorter side, crop); the first in the curve

    def __post_init__(self):
        super().__post_init__()
        choose(self.augmentation, ("scale", "scale and aspect ratio"), "augmentation")

    @property
    def words(self):
        """The augmentation as a page names it."""
        rest = ["flips"] * self.flip + ["lighting"] * bool(self.lighting) + ["colour jitter"] * bool(self.jitter)
        return ", ".join([self.augmentation, *rest])


CIFAR = Protocol()

# What the authors' released code does (github.com/KaimingHe/resnet-1k-layers: `-batchSize 64 -nGPU 2 -nEpochs 200`, on
# fb.resnet.torch): 200 passes over 50,000 images, drops after 80 and 121 of them, no warm-up, Nesterov's momentum, one
# mean a channel. Its epochs each end in a batch of 16; ours go on, so that as many images are seen in 150 fewer steps.
RELEASED = replace(
    CIFAR,
    iterations=200 * 50_000 // 64,
    drops=(80 * 50_000 // 64, 121 * 50_000 // 64),
    batch=64,
    bn_group=32,
    warmup=0,
    nesterov=True,
    normalisation="channel",
)

# The best row's weights were trained by fb.resnet.torch, with the augmentation and the colour of its recipe.
IMAGENET = ImageNetProtocol()
IMAGENET_ASPECT = replace(IMAGENET, augmentation="scale and aspect ratio", jitter=0.4)

# A tenth of the paper's schedule. The warm-up keeps its 400 iterations: it guards the first steps, which a shorter
# schedule does not shorten.
QUICK = CIFAR.shortened(6_400)

# 8x8 digits in batches of 64 that BN sees whole. No augmentation: a mirrored digit is another sign, and with one-pixel
# shifts ResNet-164 is left at 15 % where without them it reaches 4 % in the same 300 iterations.
SMOKE = replace(CIFAR.shortened(600, warmup=20), batch=64, pad=0, flip=False)

# CIFAR at 16x16, where four pixels of padding are two; a 25th of the paper's schedule, a quarter of an hour of a CPU
# core at 110 layers. The warm-up ends as [1]'s does, where the training error falls below 80 %: after about 400
# iterations in [1], after 100 here. The book's page on this tier tells what else was tried.
POCKET = replace(CIFAR.shortened(2_560, warmup=100), pad=2)

TIERS = {  # from the smallest up, and how a command's help and a table's heading tell of each
    "smoke": "digits, narrow nets, nothing to download",
    "pocket": "CIFAR at 16x16, narrow nets",
    "quick": "CIFAR, a tenth of the schedule",
    "paper": "the paper's protocol",
}

SMOKE_DATA = {"cifar10": "digits", "cifar100": "digit-pairs"}
POCKET_DATA = {"cifar10": "cifar10-16", "cifar100": "cifar100-16"}
# What the images of each data set are, in words that no reader takes for another's.
IMAGES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar10-16": "CIFAR-10 at 16x16 pixels",
    "cifar100-16": "CIFAR-100 at 16x16 pixels",
    "digits": "scikit-learn's digits",
    "digit-pairs": "pairs of scikit-learn's digits",
    "imagenet": "ImageNet",
    "imagenet-100": "a hundred of ImageNet's classes",
    "imagenet-10": "ten of ImageNet's classes at 64x64 pixels",
    "drawn": "pictures that the library draws",
}
NARROW = {"one-layer": (8, 16, 32), "basic": (8, 16, 32), "bottleneck": (4, 8, 16)}  # the small tiers' widths


@dataclass(frozen=True)
class Small:
    """What a small tier makes of ImageNet: data with their classes, schedule, sides in pixels, widths (None: all)."""

    dataset: str
    classes: int
    changes: dict
    widths: tuple | None = None


# Sides of 224, 256, 320 and 480 in the ratio of 64 to 224
_AT_64 = {"crop": 64, "shorter": (73, 137), "tests": (("trained", 73, 64), ("larger", 91, 91))}
IMAGENET_SMALL = {
    # twenty passes over 640 pictures: after two, every net still guesses, and no verdict could tell that a row works
    "smoke": Small("drawn", 10, {"iterations": 200, "batch": 64, **_AT_64}, (4, 8, 16, 32)),
    "pocket": Small("imagenet-10", 10, {"iterations": 2_000, "batch": 64, **_AT_64}, (8, 16, 32, 64)),
    "quick": Small("imagenet-100", 100, {"iterations": IMAGENET.iterations // 10}),  # the same 90 epochs
}
IMAGENET_TIERS = {
    "smoke": "pictures that the library draws, narrow nets, nothing to download",
    "pocket": "ten of ImageNet's classes at 64 pixels, narrow nets",
    "quick": "a hundred of ImageNet's classes, 90 epochs of them",
    "paper": "the paper's protocol",
}


def _small_imagenet(paper_recipe, tier):
    """A row's recipe on ImageNet as a small tier trains it, with what sets the row apart kept."""
    small, network = IMAGENET_SMALL[tier], paper_recipe.network
    protocol = paper_recipe.protocol.shortened(small.changes["iterations"])
    network = replace(network, classes=small.classes, widths=small.widths or network.widths)
    return replace(paper_recipe, dataset=small.dataset, network=network, protocol=replace(protocol, **small.changes))


@dataclass(frozen=True)
class Recipe:
    """All that decides a run's numbers but its seed and the arithmetic: data, network, protocol.

    folds: for a search by cross-validation, the parts that the training images are cut into; the run of seed k trains
    without part k (modulo the folds) and is tested on it. None trains on all and tests on the test set.
    """

    dataset: str
    network: object
    protocol: Training
    folds: int | None = None

    def to_json(self):
        """The recipe as plain JSON types."""
        parts = {"dataset": self.dataset, "network": self.network.to_json(), "protocol": self.protocol.to_json()}
        return parts if self.folds is None else parts | {"folds": self.folds}


@dataclass(frozen=True)
class Reduction:
    """A named cut of a tier, for machines that cannot afford it: another depth or width, fewer iterations.

    width: channels of the stem and of the first stage's 3x3 layers; the other stages' widths shrink by as much.
    """

    depth: int | None = None
    iterations: int | None = None
    width: int | None = None

    @property
    def name(self):
        """As folders and tables call it: "depth-20", "depth-20-iterations-3200-width-8", or "" for no cut."""
        return "-".join(f"{key}-{value}" for key, value in asdict(self).items() if value is not None)

    @staticmethod
    def names(name):
        """Whether `name` is a reduction's."""
        number = "(0|[1-9][0-9]{,17})"
        pattern = f"(?!-)(depth-{number})?((^|-)iterations-{number})?((^|-)width-{number})?"
        return re.fullmatch(pattern, name) is not None

    @classmethod
    def parse(cls, name):
        """The reduction of that `name`. Raises UsageError for a string that names none."""
        if not cls.names(name):
            raise UsageError(
                f'a reduction is named like "depth-20", "iterations-100", "width-8" or "depth-20-width-8"; got {name!r}'
            )
        words = name.split("-") if name else []
        return cls(**{key: int(value) for key, value in zip(words[::2], words[1::2], strict=True)})

    def __str__(self):
        depth = "" if self.depth is None else f"{self.depth} layers"
        width = "" if self.width is None else f"{self.width} channels"
        iterations = "" if self.iterations is None else f"{self.iterations:,} iterations"
        return ", ".join(part for part in (depth, width, iterations) if part)


@cache  # asked for with each record that is read
def recipe(paper_recipe, tier, reduction=Reduction()):
    """A paper row's recipe as a tier trains it.

    smoke: digits, narrow nets, 600 iterations or fewer; the depth stays the paper's. pocket: CIFAR at 16x16, narrow
    nets, the paper's depth and batch, a 25th of its schedule. quick: the paper's network and data, a tenth of its
    schedule. paper: the recipe itself. Raises UsageError for a reduction of the paper tier, and
    for one that is not smaller than what it reduces.
    """
    choose(tier, TIERS, "tier")
    network, protocol = paper_recipe.network, paper_recipe.protocol
    if tier == "paper":
        if reduction != Reduction():
            raise UsageError(f"the paper tier is the paper's recipe; got {reduction}: reduce the quick or smoke tier")
        return paper_recipe
    if isinstance(protocol, ImageNetProtocol):
        return _reduced(_small_imagenet(paper_recipe, tier), tier, reduction)
    dataset = paper_recipe.dataset
    shrunk = protocol.shortened(protocol.iterations * QUICK.iterations // CIFAR.iterations)
    if tier == "pocket":
        dataset = POCKET_DATA[dataset]
        shrunk = protocol.shortened(protocol.iterations * POCKET.iterations // CIFAR.iterations)
        shrunk = replace(shrunk, warmup=min(protocol.warmup, POCKET.warmup), pad=POCKET.pad)
        network = replace(network, widths=NARROW[network.branch])
    if tier == "smoke":
        dataset = SMOKE_DATA[dataset]
        chosen = {
            field.name: getattr(protocol, field.name)
            for field in fields(Protocol)
            if getattr(protocol, field.name) != getattr(CIFAR, field.name)
        }
        shrunk = replace(SMOKE, **chosen | {"batch": SMOKE.batch * protocol.batch // CIFAR.batch})
        shrunk = shrunk.shortened(smoke_iterations(network))
        network = replace(network, widths=NARROW[network.branch], channels=1)
    return _reduced(replace(paper_recipe, dataset=dataset, network=network, protocol=shrunk), tier, reduction)


def _reduced(recipe, tier, reduction):
    """A tier's recipe, cut further. Raises UsageError for what is no cut."""
    network, shrunk = recipe.network, recipe.protocol
    if reduction.depth is not None:
        if reduction.depth >= network.depth:
            raise UsageError(f"a reduced depth must be below the row's {network.depth}; got {reduction.depth}")
        network = replace(network, depth=reduction.depth)
    if reduction.width is not None:
        first = network.widths[0]
        if not 0 < reduction.width < first:
            raise UsageError(
                f"a reduced width must be from 1 to {first - 1}, below the {tier} tier's; got {reduction.width}"
            )
        network = replace(network, widths=tuple(width * reduction.width // first for width in network.widths))
    if reduction.iterations is not None:
        if not 0 < reduction.iterations < shrunk.iterations:
            raise UsageError(
                f"reduced iterations must be from 1 to {shrunk.iterations - 1}, below the {tier} tier's; "
                f"got {reduction.iterations}"
            )
        shrunk = shrunk.shortened(reduction.iterations, min(shrunk.warmup, reduction.iterations // 16))
    return replace(recipe, network=network, protocol=shrunk)


def smoke_iterations(network):
    """Iterations that the smoke tier gives a network: fewer where each costs more; a row takes about a minute."""
    if network.depth >= 1000:
        return 150
    return 300 if network.branch == "bottleneck" else SMOKE.iterations
