"""The data sets, each as one `Dataset` of uint8 images in memory.

load("digits")      scikit-learn's 8x8 digits: the smoke tier's stand-in for CIFAR-10, nothing to download
load("digit-pairs") two-digit numbers composed from them: its stand-in for CIFAR-100
load("cifar10")     and "cifar100": the official images, from an NPZ or torchvision's files in the data folder
load("cifar10-16")  and "cifar100-16": the same at 16x16, each pixel the mean of 2x2; made when loaded
"""

from ..errors import choose
from . import cifar, digits
from .dataset import Dataset, data_dir

DATASETS = {  # of the folder of CIFAR's files
    "digits": lambda _: digits.digits(),
    "digit-pairs": lambda _: digits.digit_pairs(),
    "cifar10": lambda folder: cifar.load("cifar10", folder),
    "cifar100": lambda folder: cifar.load("cifar100", folder),
    "cifar10-16": lambda folder: cifar.load("cifar10", folder).halved(),
    "cifar100-16": lambda folder: cifar.load("cifar100", folder).halved(),
}
SIZES = {  # of an image, (height, width)
    "digits": (8, 8),
    "digit-pairs": (8, 16),
    "cifar10": (32, 32),
    "cifar100": (32, 32),
    "cifar10-16": (16, 16),
    "cifar100-16": (16, 16),
}


def load(name, folder=None):
    """The `Dataset` of that name, CIFAR's from files in `folder`, default the data folder.

    Raises UsageError where the files are missing or damaged, with what to do.
    """
    return DATASETS[choose(name, DATASETS, "dataset")](folder)


__all__ = ["DATASETS", "SIZES", "Dataset", "data_dir", "load"]
