"""A reproducible companion to "Identity Mappings in Deep Residual Networks" (He, Zhang, Ren, Sun 2016)."""

from .errors import UsageError
from .nets.models import create_model, list_models
from .nets.networks import NetworkSpec, cifar_resnet, imagenet_resnet, initialise
from .nets.orders import ORDERS
from .nets.shortcuts import shortcut
from .nets.units import ResidualUnit
from .weights import foreign

__version__ = "0.1.0"
__all__ = [
    "ORDERS",
    "NetworkSpec",
    "ResidualUnit",
    "UsageError",
    "cifar_resnet",
    "create_model",
    "foreign",
    "imagenet_resnet",
    "initialise",
    "list_models",
    "shortcut",
]
