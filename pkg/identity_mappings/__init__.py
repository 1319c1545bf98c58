"""A reproducible companion to "Identity Mappings in Deep Residual Networks" (He, Zhang, Ren, Sun 2016)."""

from .errors import UsageError
from .models import create_model, list_models
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
    "create_model",
    "imagenet_resnet",
    "initialise",
    "list_models",
    "shortcut",
]
