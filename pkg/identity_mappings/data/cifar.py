"""CIFAR-10 and CIFAR-100: read from an NPZ or from torchvision's files, and brought by torchvision's download."""

import zipfile
import zlib

import numpy as np

from ..errors import UsageError, choose
from .dataset import Dataset, data_dir

CLASSES = {"cifar10": 10, "cifar100": 100}

# What `Dataset.canonical` gives for the official images, in whatever order and container they come.
CHECKSUMS = {
    "cifar10": "e5d41593a0ffdaf10c0ed7e6172a5d585878c1865f7e5c5413cf4dc8a566454c",
    "cifar100": "d00106baec3aaf15d12a869272fdeab8aa4f7ae28817f0c1a793aeb03523cd46",
}

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(name, folder=None):
    """The data set from `<name>.npz` in the folder (default: the data folder), else from torchvision's files there.

    Raises UsageError where neither is there, and where what is there is damaged.
    """
    folder = folder or data_dir()
    npz = folder / f"{name}.npz"
    if npz.exists():
        arrays, source = _read_npz(npz), npz
    else:
        arrays, source = _read_torchvision(name, folder), folder
    return _checked(Dataset(name, *arrays, classes=CLASSES[name]), source)


def bring(name):
    """Download the data set with torchvision unless it is in the data folder already; returns it, checked."""
    choose(name, CLASSES, "dataset to bring")
    folder = data_dir()
    if not (folder / f"{name}.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _torchvision(name)(folder, download=True)
        except (OSError, RuntimeError) as error:  # no network, or a download that does not match its MD5
            raise UsageError(
                f"{name} could not be downloaded to {folder} ({error}); run the command again with a network, "
                f"or put {name}.npz ({', '.join(ARRAYS)}) there"
            ) from error
    return load(name)


def _torchvision(name):
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _read_torchvision(name, folder):
    try:
        train, test = (_torchvision(name)(folder, train=part) for part in (True, False))
    except RuntimeError as error:  # torchvision's word for files that are absent or fail their MD5
        raise UsageError(
            f"{name} is neither {folder / name}.npz nor intact in torchvision's form under {folder}; "
            f"bring it with: invoke data --dataset {name}"
        ) from error
    return train.data, np.asarray(train.targets), test.data, np.asarray(test.targets)


def _read_npz(path):
    try:
        with np.load(path) as archive:  # plain arrays only: NumPy refuses pickled objects by default
            return [archive[key] for key in ARRAYS]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            f"{path} must be an NPZ with {', '.join(ARRAYS)}; it cannot be read ({error}): "
            f"delete it and run: invoke data --dataset {path.stem}"
        ) from error


def _checked(dataset, source):
    """The data set in canonical order. Raises UsageError unless it holds exactly the official images."""
    remedy = f"delete it and run: invoke data --dataset {dataset.name}"
    for part, count in (("train", 50_000), ("test", 10_000)):
        images, labels = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        if images.shape != (count, 32, 32, 3) or images.dtype != np.uint8 or labels.shape != (count,):
            raise UsageError(
                f"{source}: expected {count} {part} images (32, 32, 3) uint8 with a label each; "
                f"got {images.shape} {images.dtype} and {labels.shape}: {remedy}"
            )
        if labels.min() < 0 or labels.max() >= dataset.classes:
            raise UsageError(
                f"{source}: expected {part} labels from 0 to {dataset.classes - 1}; "
                f"got {labels.min()} to {labels.max()}: {remedy}"
            )
    dataset = dataset.canonical()
    expected = CHECKSUMS.get(dataset.name)
    if expected and dataset.checksum != expected:
        raise UsageError(f"{source} is damaged: checksum {dataset.checksum[:16]}, expected {expected[:16]}: {remedy}")
    return dataset
