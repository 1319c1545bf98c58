"""The data sets: small ones as a `Dataset` of uint8 images in memory, those in files as `Photographs`.

load("digits")      scikit-learn's 8x8 digits: the smoke tier's stand-in for CIFAR-10, nothing to download
load("digit-pairs") two-digit numbers composed from them: its stand-in for CIFAR-100
load("drawn")       pictures that the library draws, in files: its stand-in for ImageNet
load("imagenet")    ILSVRC 2012, as a user has it, in files; "imagenet-100" and "imagenet-10" have some of its classes
load("cifar10")     and "cifar100": the official images, from an NPZ or torchvision's files in the data folder
load("cifar10-16")  and "cifar100-16": the same at 16x16, each pixel the mean of 2x2; made when loaded
"""

from ..errors import choose
from . import cifar, digits, imagenet
from .dataset import Dataset, data_dir

DATASETS = {
    "digits": digits.digits,
    "digit-pairs": digits.digit_pairs,
    "cifar10": lambda: cifar.load("cifar10"),
    "cifar100": lambda: cifar.load("cifar100"),
    "cifar10-16": lambda: cifar.load("cifar10").halved(),
    "cifar100-16": lambda: cifar.load("cifar100").halved(),
    "drawn": lambda: imagenet.load("drawn"),
    "imagenet-10": lambda: imagenet.load("imagenet-10"),
    "imagenet-100": lambda: imagenet.load("imagenet-100"),
    "imagenet": lambda: imagenet.load("imagenet"),
}
SIZES = {  # of an image as it is trained on, (height, width)
    "digits": (8, 8),
    "digit-pairs": (8, 16),
    "cifar10": (32, 32),
    "cifar100": (32, 32),
    "cifar10-16": (16, 16),
    "cifar100-16": (16, 16),
    "drawn": (64, 64),
    "imagenet-10": (64, 64),
    "imagenet-100": (224, 224),
    "imagenet": (224, 224),
}


def load(name):
    """The `Dataset` or the `Photographs` of that name.

    Raises UsageError where its files are missing or damaged, with what to do.
    """
    return DATASETS[choose(name, DATASETS, "dataset")]()


__all__ = ["DATASETS", "SIZES", "Dataset", "data_dir", "load"]
