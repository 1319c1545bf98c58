"""Checkpoints of other repositories, read into networks of this library by a key map.

network, about = load("resnet56.th", "akamaster", depth=56)
network, about = load("resnet-200.t7", "torch7")

A layout is data: how the repository calls each of our modules, what it chose where the paper leaves a choice, and how
it normalises images. What it leaves out must be ours already: a file whose tensors are not exactly those of the network
is refused. Pickled files are read without running code in them.
"""

import pickle
import warnings
import zipfile
from dataclasses import dataclass, field

import torch

from ..errors import UsageError, choose, first_line
from ..nets.networks import cifar_spec, imagenet_spec
from . import torch7
from .reading import COUNT, checked, existing, filled, outline
from .torch7_trees import from_tree

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # fb.resnet.torch's, which most others took over
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # kuangliu's, which many others took over


@dataclass(frozen=True)
class Keys:
    """What a repository calls our modules. {stage} and {j} count from 1, {unit} from 0; {c} and {b} are the positions
    of conv j and of BN j in a Sequential that is conv, bn, relu, conv, ..."""

    stem: tuple = ("conv1", "bn1")
    conv: str = "layer{stage}.{unit}.conv{j}"
    bn: str = "layer{stage}.{unit}.bn{j}"
    resize: tuple = ("layer{stage}.{unit}.downsample.0", "layer{stage}.{unit}.downsample.1")
    classifier: str = "fc"


TORCHVISION = Keys()
SHORTCUT = ("layer{stage}.{unit}.shortcut.0", "layer{stage}.{unit}.shortcut.1")


@dataclass(frozen=True)
class Layout:
    """One repository's networks: `spec` makes the NetworkSpec of a depth, with `choices` for its fields.

    normalisations: data set -> (mean, standard deviation), each a number a channel, of values from 0 to 1.
    centred: its zero padding puts half of the new channels before the old ones, and ours all after them.
    """

    source: str
    keys: Keys
    spec: object
    normalisations: dict
    choices: dict = field(default_factory=dict)
    centred: bool = False


WIDE = {"widths": (64, 128, 256, 512), "resize": "projection"}

LAYOUTS = {
    "akamaster": Layout(
        "github.com/akamaster/pytorch_resnet_cifar10",
        Keys(classifier="linear"),
        cifar_spec,
        {"cifar10": IMAGENET},
        centred=True,
    ),
    "bearpaw-resnet": Layout(
        "github.com/bearpaw/pytorch-classification, models/cifar/resnet.py",
        TORCHVISION,
        cifar_spec,
        {"cifar10": CIFAR10, "cifar100": CIFAR10},
        {"resize": "projection", "stride_on": "3x3"},
    ),
    "chenyaofo": Layout(
        "github.com/chenyaofo/pytorch-cifar-models",
        TORCHVISION,
        cifar_spec,
        {"cifar10": CIFAR10, "cifar100": ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))},
        {"resize": "projection"},
    ),
    "kuangliu-resnet18": Layout(
        "github.com/kuangliu/pytorch-cifar, models/resnet.py",
        Keys(resize=SHORTCUT, classifier="linear"),
        cifar_spec,
        {"cifar10": CIFAR10},
        WIDE,
    ),
    "weiaicunzai-resnet18": Layout(
        "github.com/weiaicunzai/pytorch-cifar100, models/resnet.py",
        Keys(
            stem=("conv1.0", "conv1.1"),
            conv="conv{stage_1}_x.{unit}.residual_function.{c}",
            bn="conv{stage_1}_x.{unit}.residual_function.{b}",
            resize=("conv{stage_1}_x.{unit}.shortcut.0", "conv{stage_1}_x.{unit}.shortcut.1"),
        ),
        cifar_spec,
        {"cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))},
        WIDE,
    ),
    "torchvision": Layout(
        "torchvision.models: resnet50, resnet101, resnet152",
        TORCHVISION,
        imagenet_spec,
        {"imagenet": IMAGENET},
        {"stride_on": "3x3"},
    ),
}

# The Torch7 files of fb.resnet.torch and resnet-1k-layers hold their own structure, so that they need no key map.
TORCH7_NORMALISATIONS = {
    "imagenet": IMAGENET,
    "cifar10": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
}

# Well-known networks that are none of ours, and why.
REFUSED = {
    "kuangliu-preact": "its networks have no BN and ReLU after the last unit (github.com/kuangliu/pytorch-cifar)",
    "weiaicunzai-preact": "its convolutions have biases and its networks no BN and ReLU after the last unit "
    "(github.com/weiaicunzai/pytorch-cifar100)",
    "bearpaw-preresnet": "its stem has no BN and ReLU, so that its first shortcut carries the bare convolution "
    "(github.com/bearpaw/pytorch-classification)",
}

NAMES = (*LAYOUTS, "torch7")


def load(path, layout, depth=None, dataset=None, **choices):
    """(network, about) of another repository's checkpoint; the network in evaluation mode; about as `weights.load`'s.

    layout: one of NAMES. depth: the network's, in the paper's count of layers; "torch7" finds it in the file. dataset:
    decides the normalisation where the layout knows several. choices: fields of NetworkSpec that a repository leaves
    to its user, such as branch="bottleneck". The classes and the image's channels are the file's.
    Raises UsageError for a layout of networks that are none of ours, for a file that cannot be read without running
    code in it, and for one whose tensors are not exactly the network's.
    """
    if layout in REFUSED:
        raise UsageError(f"{layout} cannot be imported: {REFUSED[layout]}, and so they are none of the paper's")
    choose(layout, NAMES, "layout")
    if layout == "torch7":
        network = from_tree(torch7.load(path), path)
        normalisations = TORCH7_NORMALISATIONS
        dataset = dataset or ("imagenet" if network.spec.stem == "imagenet" else "cifar10")
    else:
        if depth is None:
            raise UsageError(f"the layout {layout!r} needs the network's depth; got none: add --depth")
        network = from_tensors(read_pytorch(path), LAYOUTS[layout], depth, path, **choices)
        normalisations = LAYOUTS[layout].normalisations
        dataset = dataset or next(iter(normalisations))
    images = None
    if dataset in normalisations:
        mean, std = normalisations[dataset]
        images = {"dataset": dataset, "mean": list(mean), "std": list(std)}
    return network.eval(), {"record": None, "images": images}


def read_pytorch(path):
    """The tensors of a PyTorch checkpoint by name, at its top or under a usual key, without "module." prefixes."""
    path = existing(path, "a PyTorch checkpoint")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("its archive is compressed")  # as torch.save writes none, and larger than it looks
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused in a line of our own
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is no PyTorch checkpoint of tensors alone; code in a file is never run: save it anew as "
            "torch.save(network.state_dict(), path)"
        ) from error
    except Exception as error:  # a damaged file may fail anywhere in there, and PyTorch promises no list of errors
        raise UsageError(f"{path} must be a PyTorch checkpoint; it cannot be read ({first_line(error)})") from error
    for key in ("state_dict", "net", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UsageError(f"{path} must hold a state_dict, alone or under the key state_dict, net or model")
    return checked({str(key).removeprefix("module."): value for key, value in content.items()}, path)


def from_tensors(tensors, layout, depth, source="the checkpoint", **choices):
    """The network of a layout and depth with those tensors. Raises UsageError unless they are exactly its own."""
    stem, classifier = (tensors.get(f"{key}.weight") for key in (layout.keys.stem[0], layout.keys.classifier))
    there = stem is not None and classifier is not None and stem.numel() and classifier.numel()
    if not there or stem.ndim != 4 or classifier.ndim != 2:
        wanted = f"{layout.keys.stem[0]}.weight and {layout.keys.classifier}.weight"
        raise UsageError(f"{source} has not the layout of {layout.source}: it lacks {wanted}; choose another --layout")
    sizes = {"classes": len(classifier), "channels": stem.shape[1]}
    spec = layout.spec(depth, **layout.choices | sizes | choices)
    expected = outline(spec, tensors, source).state_dict()
    names = {theirs: ours for ours, theirs in key_map(spec, layout.keys).items()}
    renamed = {}
    for key, tensor in tensors.items():
        module, _, name = key.rpartition(".")
        renamed[f"{names[module]}.{name}" if module in names else key] = tensor
    for key in expected:
        if key.endswith(COUNT):  # a count that evaluation does not read; old files lack it
            renamed.setdefault(key, torch.zeros((), dtype=torch.int64))
    return filled(spec, reordered(renamed, spec) if layout.centred else renamed, source)


def key_map(spec, keys):
    """Our module's name -> the other repository's, for each module with tensors of a network of the original order."""
    found = {"stem.0": keys.stem[0], "stem.1": keys.stem[1], "classifier": keys.classifier}
    places = [(stage, unit) for stage, count in enumerate(spec.units, 1) for unit in range(count)]
    for index, (stage, unit) in enumerate(places):
        where = {"stage": stage, "stage_1": stage + 1, "unit": unit}
        for j in range(1, 1 + len(spec.convs(1, 1))):
            where |= {"j": j, "c": 3 * (j - 1), "b": 3 * (j - 1) + 1}
            found[f"units.{index}.residual.{3 * (j - 1)}"] = keys.conv.format(**where)
            found[f"units.{index}.residual.{3 * (j - 1) + 1}"] = keys.bn.format(**where)
        for k, key in enumerate(keys.resize):
            found[f"units.{index}.resize.{k}"] = key.format(**where)
    return found


def reordered(tensors, spec):
    """The tensors with each stage's channels in our order, where theirs have the padding on both sides.

    A padded shortcut only moves channels, so that the networks are the same up to the order of channels in each stage.
    """
    tensors, before = dict(tensors), torch.arange(spec.widths[0])
    order, index = before, 0
    for stage, (width, count) in enumerate(zip(spec.widths, spec.units, strict=True)):
        if stage:
            front = (width - len(before)) // 2
            padding = [k for k in range(width) if not front <= k < front + len(before)]
            order = torch.cat([before + front, torch.tensor(padding)])
        for _ in range(count):
            _permute(tensors, f"units.{index}.residual.0.weight", before, 1)
            for name in ("3.weight", "4.weight", "4.bias", "4.running_mean", "4.running_var"):
                _permute(tensors, f"units.{index}.residual.{name}", order, 0)
            before, index = order, index + 1
    _permute(tensors, "classifier.weight", order, 1)
    return tensors


def _permute(tensors, key, order, dimension):
    if key in tensors and tensors[key].ndim > dimension and tensors[key].shape[dimension] == len(order):
        tensors[key] = tensors[key].index_select(dimension, order)  # what is missing or of another shape, `fill` names
