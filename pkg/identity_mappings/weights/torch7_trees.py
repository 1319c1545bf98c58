"""Networks saved by Torch7, which hold their own structure: found among ours by comparing what each computes.

Two of them are worth knowing. The released ResNet-200, the dagger of Table 5, was trained before its code followed the
appendix (fb.resnet.torch, issues 41 and 45, pull request 42): its stage openers activate on the residual branch alone,
`opening="branch"`. The released ResNet-50 has its BN after the addition, Fig. 4(b).
"""

from dataclasses import replace
from itertools import product

import torch
from torch import nn

from ..errors import UsageError
from ..nets.networks import BRANCHES, IMAGENET_UNITS, cifar_spec, imagenet_spec, set_bn_eps
from ..nets.orders import ORDERS
from ..nets.units import ZeroPad
from . import torch7
from .reading import COUNT, checked, filled


def from_tree(root, source="the file"):
    """The network of a Torch7 module tree, found by comparing what each computes, step by step.

    Raises UsageError where the tree is none of our networks, naming the first step that differs from the nearest one,
    and where its tensors are not exactly the network's.
    """
    try:
        if isinstance(root, torch7.Module) and root.name == "nn.DataParallelTable":
            root = root.children[0]
        steps, leaves = _torch7_steps(root)
        spec, fault = _found(steps)
        if fault:
            raise ValueError(fault)
        modules, tensors = _paired(spec, leaves)
        eps = _eps([leaf for leaf in leaves if leaf["running_mean"] is not None])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{source} holds none of our networks: {error}") from error
    network = filled(spec, _shaped(modules, checked(tensors, source), source), source)
    set_bn_eps(network, eps)
    return network


def _found(steps):
    """(the spec whose network computes these steps, None), or (the nearest one, where the two differ)."""
    nearest, fault = None, (-1, "")
    for spec in _candidates(steps):
        ours = _outlined(spec)
        same = next((k for k, pair in enumerate(zip(steps, ours, strict=False)) if pair[0] != pair[1]), None)
        if same is None and len(steps) == len(ours):
            return spec, None
        same = min(len(steps), len(ours)) if same is None else same
        theirs, expected = (each[same] if same < len(each) else "its end" for each in (steps, ours))
        if same > fault[0]:
            nearest, fault = spec, (same, f"at step {same + 1} it has {theirs}, {spec} has {expected}")
    return nearest, fault[1]


def _candidates(steps):
    """The specs that a network of these steps may have, the likelier ones first."""
    kinds = [step[0] for step in steps]
    paths = "".join({"split": "(", "other": "|", "join": ")", "conv": "c"}.get(kind, "") for kind in kinds)
    units = [unit.partition(")")[0].partition("|")[0] for unit in paths.split("(")[1:]]
    branches = {"c" * convs: branch for branch, (convs, _) in BRANCHES.items()}
    if not units or len(set(units)) > 1 or units[0] not in branches:
        counts = ", ".join(sorted({str(len(unit)) for unit in units})) or "no"
        raise ValueError(f"its units must have 1, 2 or 3 convolutions, all of them the same number; got {counts}")
    if kinds[0] != "conv" or "linear" not in kinds:
        raise ValueError("it must begin with a convolution and have a linear classifier")
    branch = branches[units[0]]
    fixed = {"branch": branch, "classes": steps[kinds.index("linear")][2], "channels": steps[0][3]}
    depth = len(units) * len(units[0]) + 2
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
    return [make(depth, **fixed, **dict(zip(choices, found, strict=True))) for found in product(*choices.values())]


def _outlined(spec):
    """The steps of a spec's network. A stage's units are alike from its second on, so that two stand for all."""
    repeats, convs = 1, BRANCHES[spec.branch][0]
    if spec.stem == "cifar" and spec.units[0] > 2:
        repeats, spec = spec.units[0] - 1, replace(spec, depth=2 + 2 * convs * len(spec.widths))
    with torch.device("meta"):
        return _steps(spec.build(), repeats)[0]


def _steps(network, repeats=1):
    """(what a network of ours computes, as a list of steps; its modules with tensors, in that order).

    repeats: how often every other unit counts.
    """
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
    for position, unit in enumerate(network.units):
        for _ in range(repeats if position % 2 else 1):
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
    steps, leaves, met = [], [], set()

    def walk(module):
        if module in met:  # which may make a small file a tree without an end
            raise ValueError(f"a {module.name} stands in it twice, and no layer of ours is used twice")
        met.add(module)
        kind = module.name.partition(".")[2]
        if kind == "Sequential":
            for child in module.children:
                walk(child)
        elif kind == "ConcatTable" and len(module.children) == 2:
            steps.append(("split",))
            walk(module.children[0])
            steps.append(("other",))
            walk(module.children[1])
        elif kind not in ("Identity", "View", "Reshape", "Copy"):
            steps.append(_step(module, kind))
            if steps[-1][0] in ("conv", "bn", "linear"):
                leaves.append(module)

    if not isinstance(root, torch7.Module):
        raise ValueError("its top is no module")
    walk(root)
    return steps, leaves


def _step(module, kind):
    """The step of one Torch7 module. Raises ValueError for one that no network of ours has."""
    if kind == "CAddTable":
        return ("join",)
    if kind in ("SpatialConvolution", "SpatialConvolutionMM"):
        wide, high = (
            (module.size(f"k{axis}"), module.size(f"d{axis}"), module.size(f"pad{axis}", 0, 0)) for axis in "WH"
        )
        if wide != high:
            raise ValueError("it has a convolution that is not square")
        if module.size("groups", default=1) != 1:
            raise ValueError("it has a grouped convolution")
        return "conv", *wide[:2], module.size("nInputPlane"), module.size("nOutputPlane"), wide[2]
    if kind == "SpatialBatchNormalization":
        return "bn", len(module.array("running_mean", 1))
    if kind == "ReLU":
        return ("relu",)
    if kind == "SpatialMaxPooling":
        return "maxpool", module.size("kW"), module.size("dW"), module.size("padW", 0, 0)
    if kind == "SpatialAveragePooling":
        return ("subsample", module.size("dW")) if module.size("kW") == 1 else ("average",)
    if kind == "Concat" and [child.name for child in module.children] == ["nn.Identity", "nn.MulConstant"]:
        if module.children[1]["constant_scalar"] != 0:
            raise ValueError("it has a padding that is not of zeros")
        return ("zeros",)
    if kind == "Linear":
        return "linear", *reversed(module.array("weight", 2).shape)
    raise ValueError(f"it has a {module.name[:40]}, which none of them has")


def _paired(spec, leaves):
    """(the modules of the spec's network by name, the tensors of Torch7's modules under those names)."""
    with torch.device("meta"):
        network = spec.build()
    names = {module: name for name, module in network.named_modules()}
    modules, tensors = {}, {}
    for module, leaf in zip(_steps(network)[1], leaves, strict=True):
        name = names[module]
        modules[name] = module
        keys = [key for key in module.state_dict() if key != COUNT]
        if isinstance(module, nn.Conv2d) and leaf["bias"] is not None:
            keys.append("bias")
        if isinstance(module, nn.BatchNorm2d) and leaf["running_var"] is None:
            raise ValueError(f"{name} has no running_var there: it is of a Torch older than 2016")
        tensors |= {f"{name}.{key}": torch.from_numpy(leaf.array(key)) for key in keys}
    return modules, tensors


def _shaped(modules, tensors, source):
    """The tensors as the modules have them: no convolution has a bias, or a weight in two dimensions; BN counts."""
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d):
            if tensors.pop(f"{name}.bias", torch.zeros(1)).any():
                raise UsageError(f"{source}: {name} has a bias there, and no convolution of ours has one")
            weight = tensors[f"{name}.weight"]
            if weight.ndim == 2 and weight.numel() == module.weight.numel():  # as SpatialConvolutionMM keeps it
                tensors[f"{name}.weight"] = weight.reshape(module.weight.shape)
        elif isinstance(module, nn.BatchNorm2d):
            tensors[f"{name}.{COUNT}"] = torch.zeros((), dtype=torch.int64)
    return tensors


def _eps(norms):
    """The epsilon of all BNs, Torch7's default where they have none."""
    epsilons = {norm.fields.get("eps", 1e-5) for norm in norms}
    if len(epsilons) != 1:
        raise ValueError(f"its BNs must have one epsilon; got {len(epsilons)}")
    (eps,) = epsilons
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(f"eps of its BNs must be a number between 0 and 1; got {eps!r}")
    return eps
