"""A reproducible companion to "Identity Mappings in Deep Residual Networks" (He, Zhang, Ren, Sun 2016)."""

from .errors import UsageError
from .networks import NetworkSpec, cifar_resnet, imagenet_resnet, initialise
from .orders import ORDERS
from .shortcuts import shortcut
from .units import ResidualUnit

__version__ = "0.1.0"
__all__ = [
    "ORDERS",
    "NetworkSpec",
    "ResidualUnit",
    "UsageError",
    "cifar_resnet",
    "imagenet_resnet",
    "initialise",
    "shortcut",
]
