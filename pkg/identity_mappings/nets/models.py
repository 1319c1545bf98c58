"""Networks by name, for `create_model` and torch.hub.

A name is `[cifar_]resnet<depth>[_1layer][_<order>]`: cifar_resnet110, cifar_resnet164_preact, resnet200_preact.
"cifar_" has the stem for small images, and its absence ImageNet's; without an order it is the original one, Fig. 4(a).
The number of classes is no part of it: create_model("cifar_resnet110", num_classes=100).
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..errors import UsageError, choose
from .networks import IMAGENET_UNITS, NetworkSpec, cifar_spec, imagenet_spec, initialised

# a name's ending -> the order, as Table 2 spells it
SUFFIXES = {
    "": "original",
    "_bn_after_add": "BN after addition",
    "_relu_before_add": "ReLU before addition",
    "_relu_only_preact": "ReLU-only pre-activation",
    "_preact": "full pre-activation",
}

# The first ResNet paper's depths, of which Table 4 quotes 110 and 1202, and this paper's 164 and 1001.
CIFAR_DEPTHS = (20, 32, 44, 56, 110, 164, 1001, 1202)


def _models():
    """name -> (the function that makes its spec, its depth, its fields of NetworkSpec)."""
    found = {}
    for suffix, order in SUFFIXES.items():
        for depth in CIFAR_DEPTHS:
            found[f"cifar_resnet{depth}{suffix}"] = cifar_spec, depth, {"order": order}
        one_layer = {"order": order, "branch": "one-layer"}
        found[f"cifar_resnet110_1layer{suffix}"] = cifar_spec, 110, one_layer  # Tables 2 and 3
        for depth in IMAGENET_UNITS:
            found[f"resnet{depth}{suffix}"] = imagenet_spec, depth, {"order": order}
    return found


MODELS = _models()


def list_models(pattern="*"):
    """The names of all networks that match a pattern such as "cifar_*_preact", in alphabetical order."""
    return sorted(name for name in MODELS if fnmatchcase(name, pattern))


def create_model(name, num_classes=None, seed=None, **choices):
    """The network of that name with the paper's initial weights, which `seed` fixes; the rest as in `model_spec`."""
    return initialised(model_spec(name, num_classes, **choices), seed)


def model_spec(name, num_classes=None, **choices):
    """The NetworkSpec of that name.

    num_classes: default 10, or 1000 for ImageNet. choices: other fields of NetworkSpec.
    Raises UsageError for an unknown name, with the nearest ones, and for an unknown choice.
    """
    if name not in MODELS:
        near = get_close_matches(str(name), MODELS, n=5, cutoff=0.0)
        raise UsageError(f"no model is called {name!r}; the nearest: {', '.join(near)}; list_models() names all")
    make, depth, fields = MODELS[name]
    for choice in choices:
        choose(choice, sorted({*NetworkSpec.__dataclass_fields__} - {"depth"}), "choice of a network")
    classes = {} if num_classes is None else {"classes": num_classes}
    return make(depth, **fields | classes | choices)
