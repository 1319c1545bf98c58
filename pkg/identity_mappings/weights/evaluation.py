"""The error of a network on a data set's test images: what `evaluate` prints.

CIFAR and digits are normalised as the weights say; folders of images are resized, cropped at the centre and normalised.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import data as datasets
from ..data.batches import Images
from ..errors import UsageError, choose, first_line
from ..hardware import cores
from ..nets.precisions import autocast

SMALL = tuple(datasets.DATASETS)
DATASETS = (*SMALL, "imagenet", "folder")
CROPS = {224: 256, 320: 320}  # the crop -> the shorter side before it, in pixels (section 5)
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
BATCH = 500


@dataclass(frozen=True)
class Score:
    """What a network gets wrong. top1, top5: percent of n images; top5 None below six classes."""

    top1: float
    top5: float | None
    n: int

    def __str__(self):
        top5 = "not defined below 6 classes" if self.top5 is None else f"{self.top5:.2f} %"
        return f"top-1 error {self.top1:.2f} %, top-5 error {top5}, n = {self.n:,} images"


@torch.no_grad()
def score(network, batches, device="cpu", precision="fp32"):
    """The `Score` of a network over batches of (images (n, c, h, w) normalised, labels (n,)).

    The network goes to `device` and into evaluation mode. precision: of PRECISIONS.
    """
    network = network.to(device, memory_format=torch.channels_last).eval()
    n, wrong, missed, classes = 0, 0, 0, None
    for images, labels in batches:
        labels = labels.to(device)
        with autocast(precision, device):
            logits = network(images.to(device))
        classes = logits.shape[1]
        n += len(labels)
        wrong += int((logits.argmax(1) != labels).sum())
        if classes > 5:
            missed += len(labels) - int((logits.topk(5).indices == labels[:, None]).sum())
    return Score(100.0 * wrong / n, 100.0 * missed / n if classes > 5 else None, n)


def small_batches(spec, dataset, images, path=None, batch=BATCH, device="cpu"):
    """(batches, normalisation in words) of the test images of CIFAR or digits, normalised as `images` says.

    spec: the network's. images: as in `weights.save`; None: by each channel's mean and standard deviation. path: where
    CIFAR lies. "pixel" and "channel" use the training images' statistics, as training did.
    Raises UsageError where the data are not there or not of the network's classes and channels, and where the weights
    need the mean image of another data set.
    """
    images = images or {"dataset": dataset, "normalisation": "channel"}
    kind = images.get("normalisation")
    if kind == "pixel" and images["dataset"] != dataset:
        raise UsageError(
            f"these weights need images less the mean image of {images['dataset']}; got --dataset {dataset}: "
            f"evaluate them on {images['dataset']}"
        )
    held = datasets.load(dataset, path and Path(path))
    expected, found = (spec.classes, spec.channels), (held.classes, held.x_test.shape[-1])
    if expected != found:
        raise UsageError(
            f"the network takes {expected[1]} channels to {expected[0]} classes; {dataset} has {found[1]} channels and "
            f"{found[0]} classes: choose another --dataset"
        )
    if kind is None:
        mean, std = (torch.tensor(images[name], dtype=torch.float32) * 255 for name in ("mean", "std"))
        test = Images(held.x_test, held.y_test, mean, std, device)
        words = _words(images)
    else:
        source = held
        if images["dataset"] != dataset:
            source = datasets.load(images["dataset"])
        _, test = Images.pair(source, kind, device)
        test = Images(held.x_test, held.y_test, test.mean, test.std, device)
        words = {"pixel": "the mean image", "channel": "the channels' means"}[kind] + f" of {images['dataset']}"
    return (test.plain(start, start + batch) for start in range(0, len(test), batch)), words


def folder_batches(spec, path, images, crop=224, batch=BATCH):
    """(batches, normalisation in words) of a folder with one subfolder of images a class, in alphabetical order.

    Each image is resized to a shorter side of 256 and cropped to 224 x 224 at its centre, or 320 and 320 x 320. images:
    as in `weights.save`, with mean and std; None: ImageNet's. Raises UsageError where `path` is no such folder, or has
    another number of classes than the network of `spec`.
    """
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    choose(crop, CROPS, "crop")
    images = images or IMAGENET
    if "mean" not in images:
        raise UsageError(
            f"these weights need images normalised as {images['dataset']} is; a folder has no such statistics: "
            f"evaluate them on {images['dataset']}"
        )
    searched = [Path(path) / "val", Path(path)]
    found = next((each for each in searched if each.is_dir() and any(p.is_dir() for p in each.iterdir())), None)
    if found is None:
        raise UsageError(
            f"no folder of images, one subfolder a class, at {searched[0]} or {searched[1]}: give its path with --data"
        )
    steps = [transforms.Resize(CROPS[crop]), transforms.CenterCrop(crop), transforms.ToTensor()]
    steps.append(transforms.Normalize(images["mean"], images["std"]))
    try:
        folder = ImageFolder(found, transforms.Compose(steps), loader=_picture)
    except FileNotFoundError as error:  # torchvision's word for a class without an image
        raise UsageError(f"{found} must hold images in each of its subfolders ({error})") from error
    if (spec.classes, spec.channels) != (len(folder.classes), 3):
        raise UsageError(
            f"the network takes {spec.channels} channels to {spec.classes} classes; the images under {found} have 3 "
            f"channels and {len(folder.classes)} classes: give a folder with one subfolder for each class"
        )
    workers = cores() if len(folder) > 2 * batch else 0
    return _answered(DataLoader(folder, batch, num_workers=workers)), _words(images)


def _picture(path):
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except Exception as error:  # a damaged file may fail anywhere in there, and Pillow promises no list of errors
        reason = first_line(error)
        raise UsageError(f"{path} must be a picture; it cannot be read ({reason}): replace or remove it") from error


def _answered(batches):
    """The batches; a UsageError that comes from a worker process loses the traceback that is put before its line."""
    try:
        yield from batches
    except UsageError as error:
        raise UsageError(str(error).strip().rpartition("UsageError: ")[2]) from None


def _words(images):
    mean, std = (", ".join(f"{value:.4g}" for value in images[name]) for name in ("mean", "std"))
    return f"mean ({mean}), standard deviation ({std}) of values from 0 to 1"
