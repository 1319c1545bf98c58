"""A reproducible companion to "Identity Mappings in Deep Residual Networks" (He, Zhang, Ren, Sun 2016)."""

from importlib import import_module

__version__ = "0.1.0"

# Each name's home, imported when it is first asked for: torch takes seconds, and a command line answers before it.
_HOMES = {
    "ORDERS": ".nets.orders",
    "NetworkSpec": ".nets.networks",
    "ResidualUnit": ".nets.units",
    "UsageError": ".errors",
    "cifar_resnet": ".nets.networks",
    "create_model": ".nets.models",
    "foreign": ".weights.foreign",
    "imagenet_resnet": ".nets.networks",
    "initialise": ".nets.networks",
    "list_models": ".nets.models",
    "shortcut": ".nets.shortcuts",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name], __name__)
    return getattr(home, name, home)  # `foreign` is a module itself


def __dir__():
    return sorted([*globals(), *__all__])
