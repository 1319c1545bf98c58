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

DATASETS = {  # of the folder of CIFAR's files
    "digits": lambda _: digits.digits(),
    "digit-pairs": lambda _: digits.digit_pairs(),
    "cifar10": lambda folder: cifar.load("cifar10", folder),
    "cifar100": lambda folder: cifar.load("cifar100", folder),
    "cifar10-16": lambda folder: cifar.load("cifar10", folder).halved(),
    "cifar100-16": lambda folder: cifar.load("cifar100", folder).halved(),
    **{name: lambda _, name=name: imagenet.load(name) for name in imagenet.NAMES},
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


def load(name, folder=None):
    """The `Dataset` or the `Photographs` of that name, CIFAR's from files in `folder`, default the data folder.

    Raises UsageError where its files are missing or damaged, with what to do.
    """
    return DATASETS[choose(name, DATASETS, "dataset")](folder)


__all__ = ["DATASETS", "SIZES", "Dataset", "data_dir", "load"]
