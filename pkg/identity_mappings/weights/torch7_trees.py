"""Networks saved by Torch7, which hold their own structure: found among ours by comparing what each computes.

Two of them are worth knowing. The released ResNet-200, the dagger of Table 5, was trained before its code followed the
appendix (fb.resnet.torch, issues 41 and 45, pull request 42): its stage openers activate on the residual branch alone,
`opening="branch"`. The released ResNet-50 has its BN after the addition, Fig. 4(b).
"""

from itertools import product

import torch
from torch import nn

from ..errors import UsageError
from ..nets.networks import IMAGENET_UNITS, cifar_spec, imagenet_spec, set_bn_eps
from ..nets.orders import ORDERS
from ..nets.units import ZeroPad
from . import torch7
from .files import fill


def from_tree(root, source="the file"):
    """The network of a Torch7 module tree, found by comparing what each computes, step by step.

    Raises UsageError where the tree is none of our networks, naming the first step that differs from the nearest one.
    """
    while isinstance(root, torch7.Module) and root.name == "nn.DataParallelTable":
        root = root.children[0]
    try:
        steps, leaves = _torch7_steps(root)
        specs = _candidates(steps)
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{source} holds none of our networks: {error}") from error
    nearest = 0, None, None
    for spec in specs:
        with torch.device("meta"):
            ours, _ = _steps(spec.build())
        same = next((k for k, pair in enumerate(zip(steps, ours, strict=False)) if pair[0] != pair[1]), None)
        if same is None and len(steps) == len(ours):
            return _filled(spec, leaves, source)
        same = min(len(steps), len(ours)) if same is None else same
        nearest = max(nearest, (same, spec, ours), key=lambda found: found[0])
    same, spec, ours = nearest
    theirs, expected = (each[same] if same < len(each) else "its end" for each in (steps, ours or ()))
    raise UsageError(f"{source} holds none of our networks: at step {same + 1} it has {theirs}, {spec} has {expected}")


def _candidates(steps):
    """The specs that a network of these steps may have, the likelier ones first."""
    kinds = [step[0] for step in steps]
    convs = [step for step in steps if step[0] == "conv"]
    paths = "".join({"split": "(", "other": "|", "join": ")", "conv": "c"}.get(kind, "") for kind in kinds)
    units = [unit.partition(")")[0].partition("|") for unit in paths.split("(")[1:]]
    if not units or any(unit[0] != units[0][0] for unit in units):
        raise ValueError("its units do not all have the same number of convolutions")
    branch = {1: "one-layer", 2: "basic", 3: "bottleneck"}[len(units[0][0])]
    linear = next(step for step in steps if step[0] == "linear")
    fixed = {"branch": branch, "classes": linear[2], "channels": convs[0][3]}
    depth = len(units) * len(units[0][0]) + 2
    inside, widths = False, []
    for step in steps:
        if step[0] == "split":
            inside = True
        elif step[0] == "conv" and inside:
            widths.append(step[4])
            inside = False
    fixed["widths"] = tuple(dict.fromkeys(widths))
    make = imagenet_spec if "maxpool" in kinds and depth in IMAGENET_UNITS else cifar_spec
    choices = {
        "order": ("full pre-activation", *(name for name in ORDERS if name != "full pre-activation")),
        "resize": ("pad",) if "zeros" in kinds else ("projection",),
        "projection_bn": (None,) if "zeros" in kinds else (False, True),
        "stride_on": ("first", "3x3") if branch == "bottleneck" else ("first",),
        "opening": ("both", "branch"),
    }
    return (make(depth, **fixed, **dict(zip(choices, found, strict=True))) for found in product(*choices.values()))


def _steps(network):
    """(what a network of ours computes, as a list of steps; its modules with tensors, in that order)."""
    steps, leaves = [], []

    def walk(modules):
        for module in modules:
            step = None
            if isinstance(module, nn.Sequential):
                walk(module)
            elif isinstance(module, nn.Conv2d):
                sizes = module.kernel_size[0], module.stride[0], module.in_channels, module.out_channels
                step = "conv", *sizes, module.padding[0]
            elif isinstance(module, nn.BatchNorm2d):
                step = "bn", module.num_features
            elif isinstance(module, nn.ReLU):
                step = ("relu",)
            elif isinstance(module, nn.MaxPool2d):
                step = "maxpool", module.kernel_size, module.stride, module.padding
            elif isinstance(module, ZeroPad):
                steps.extend([("subsample", module.stride), ("zeros",)])
            elif isinstance(module, nn.Linear):
                step = "linear", module.in_features, module.out_features
            if step:
                steps.append(step)
            if step and step[0] in ("conv", "bn", "linear"):
                leaves.append(module)

    walk(network.stem)
    for unit in network.units:
        walk(unit.before)
        steps.append(("split",))
        walk(unit.residual)
        steps.append(("other",))
        walk([unit.resize])
        steps.append(("join",))
        walk(unit.after)
    walk(network.tail)
    steps.append(("average",))
    walk([network.classifier])
    return steps, leaves


def _torch7_steps(root):
    """As `_steps`, of a Torch7 module tree. Raises ValueError for a module that no network of ours has."""
    steps, leaves = [], []

    def walk(module):
        kind = module.name.partition(".")[2]
        step = None
        if kind == "Sequential":
            for child in module.children:
                walk(child)
        elif kind == "ConcatTable" and len(module.children) == 2:
            steps.append(("split",))
            walk(module.children[0])
            steps.append(("other",))
            walk(module.children[1])
        elif kind == "CAddTable":
            steps.append(("join",))
        elif kind in ("SpatialConvolution", "SpatialConvolutionMM"):
            if (module["kW"], module["dW"], module["padW"]) != (module["kH"], module["dH"], module["padH"]):
                raise ValueError("it has a convolution that is not square")
            if (module["groups"] or 1) != 1:
                raise ValueError("it has a grouped convolution")
            step = (
                "conv",
                module["kW"],
                module["dW"],
                module["nInputPlane"],
                module["nOutputPlane"],
                module["padW"] or 0,
            )
        elif kind == "SpatialBatchNormalization":
            step = "bn", len(module["running_mean"])
        elif kind == "ReLU":
            step = ("relu",)
        elif kind == "SpatialMaxPooling":
            step = "maxpool", module["kW"], module["dW"], module["padW"] or 0
        elif kind == "SpatialAveragePooling":
            step = ("subsample", module["dW"]) if module["kW"] == 1 else ("average",)
        elif kind == "Concat" and [child.name for child in module.children] == ["nn.Identity", "nn.MulConstant"]:
            if module.children[1]["constant_scalar"] != 0:
                raise ValueError("it has a padding that is not of zeros")
            step = ("zeros",)
        elif kind == "Linear":
            step = "linear", *reversed(module["weight"].shape)
        elif kind not in ("Identity", "View", "Reshape", "Copy"):
            raise ValueError(f"it has a {module.name}, which none of them has")
        if step:
            steps.append(step)
        if step and step[0] in ("conv", "bn", "linear"):
            leaves.append(module)

    if not isinstance(root, torch7.Module):
        raise ValueError("its top is no module")
    walk(root)
    return steps, leaves


def _filled(spec, leaves, source):
    """The network of a spec with the tensors of Torch7 modules, leaf by leaf."""
    network = spec.build()
    _, ours = _steps(network)
    names = {module: name for name, module in network.named_modules()}
    tensors = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    for module, leaf in zip(ours, leaves, strict=True):
        bias = leaf["bias"]
        if isinstance(module, nn.Conv2d) and bias is not None and bias.any():
            raise UsageError(f"{source}: {names[module]} has a bias there, and no convolution of ours has one")
        if isinstance(module, nn.BatchNorm2d) and leaf["running_var"] is None:
            raise UsageError(f"{source}: {names[module]} has no running_var there: it is of a Torch older than 2016")
        for key, expected in module.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor = torch.tensor(leaf[key])
                tensors[f"{names[module]}.{key}"] = tensor.reshape(expected.shape) if tensor.numel() else tensor
    fill(network, tensors, source)
    epsilons = {leaf["eps"] for module, leaf in zip(ours, leaves, strict=True) if isinstance(module, nn.BatchNorm2d)}
    if len(epsilons) == 1 and None not in epsilons:
        set_bn_eps(network, epsilons.pop())
    return network
