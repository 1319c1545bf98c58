"""Every network by name for torch.hub: an entry point for each name of `identity_mappings.list_models()`.

torch.hub.load(".", "cifar_resnet110_preact", source="local", num_classes=100)
"""

import sys as _sys
from pathlib import Path as _Path

dependencies = ["torch", "numpy"]

_sys.path.insert(0, str(_Path(__file__).resolve().parent / "pkg"))  # the library of this checkout

from identity_mappings.nets.models import MODELS as _MODELS  # noqa: E402
from identity_mappings.nets.models import create_model as _create_model  # noqa: E402


def _entry(name):
    def entry(**choices):
        return _create_model(name, **choices)

    entry.__name__ = name
    entry.__doc__ = f"{name} with the paper's initial weights; takes num_classes, seed and the fields of NetworkSpec."
    return entry


globals().update({name: _entry(name) for name in _MODELS})
