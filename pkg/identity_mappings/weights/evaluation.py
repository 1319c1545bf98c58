"""The error of a network on a data set's test images: what `evaluate` prints.

CIFAR and digits are normalised as the weights say; folders of images are resized, cropped at the centre and normalised.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import data as datasets
from ..data import imagenet
from ..data.batches import Images
from ..data.pictures import Pictures
from ..errors import UsageError, choose
from ..experiments.protocols import IMAGENET
from ..hardware import cores
from ..nets.precisions import autocast

SMALL = tuple(name for name in datasets.DATASETS if name not in imagenet.NAMES)
DATASETS = (*datasets.DATASETS, "folder")
BATCH = 500


@dataclass(frozen=True)
class Score:
    """What a network gets wrong of n images: `wrong` by its first answer, `missed` by its first five, None below six
    classes. top1, top5: the same in percent.
    """

    n: int
    wrong: int
    missed: int | None

    @property
    def top1(self):
        return 100.0 * self.wrong / self.n

    @property
    def top5(self):
        return None if self.missed is None else 100.0 * self.missed / self.n

    def __str__(self):
        top5 = "not defined below 6 classes" if self.top5 is None else f"{self.top5:.2f} %"
        return f"top-1 error {self.top1:.2f} %, top-5 error {top5}, n = {self.n:,} images"


def score(network, batches, device="cpu", precision="fp32", total=lambda counts: counts):
    """The `Score` of a network over batches of (images (n, c, h, w) normalised, labels (n,)).

    The network goes to `device` and into evaluation mode; the rest as in `counted`.
    """
    network = network.to(device, memory_format=torch.channels_last).eval()
    return counted(network, batches, device, precision, total)


@torch.no_grad()
def counted(network, batches, device="cpu", precision="fp32", total=lambda counts: counts):
    """The `Score` of a network as it is: of one in training, whose weights must stay where they lie.

    precision: of PRECISIONS. total(counts): of several processes that each have some of the images,
    the sum of their counts.
    """
    n, wrong, missed, classes = 0, 0, 0, 0
    for images, labels in batches:
        labels = labels.to(device)
        with autocast(precision, device):
            logits = network(images.to(device))
        classes = logits.shape[1]
        n += len(labels)
        wrong += int((logits.argmax(1) != labels).sum())
        if classes > 5:
            missed += len(labels) - int((logits.topk(5).indices == labels[:, None]).sum())
    n, wrong, missed, ranked = total(torch.tensor([n, wrong, missed, classes > 5])).tolist()
    return Score(n, wrong, missed if ranked else None)


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


def folder_test(images, crop=None, tests=IMAGENET.tests):
    """(images, side, crop) of a test on a folder, from what `folder_batches` is given.

    Raises UsageError for a crop that no test has, and for weights that need the statistics of a data set.
    """
    sides = {crop: side for _, side, crop in tests}
    crop = choose(crop or next(iter(sides)), sides, "crop")
    images = images or {"mean": IMAGENET.mean, "std": IMAGENET.std}
    if "mean" not in images:
        raise UsageError(
            f"these weights need images normalised as {images['dataset']} is; a folder has no such statistics: "
            f"evaluate them on {images['dataset']}"
        )
    return images, sides[crop], crop


def folder_batches(spec, files, images, crop=None, batch=BATCH, tests=IMAGENET.tests, share=(0, 1), device="cpu"):
    """(batches, normalisation in words, side, crop) of `files`, as `test_files` gives them.

    An image is resized to a shorter side and cropped at its centre, by the one of `tests`, (name, side, crop) each,
    that has that crop; None: the first. images: as in `weights.save`, with mean and std; None: ImageNet's. share:
    (rank, size) of a process that takes every size-th image.
    Raises UsageError where they have another number of classes than the network of `spec`.
    """
    files, classes = files
    images, side, crop = folder_test(images, crop, tests)
    if (spec.classes, spec.channels) != (classes, 3):
        raise UsageError(
            f"the network takes {spec.channels} channels to {spec.classes} classes; the images under {files.root} have "
            f"3 channels and {classes} classes: give a folder with one subfolder for each class"
        )
    workers = cores() if len(files) > 2 * batch else 0
    normalised = replace(IMAGENET, mean=tuple(images["mean"]), std=tuple(images["std"]))
    pictures = Pictures(files, normalised, device, workers)
    return _answered(pictures.test(side, crop, batch, *share)), _words(images), side, crop


def test_files(dataset, path=None):
    """(`Files`, number of classes) of a data set's test images: those of a folder with a subfolder for each class.

    path: a folder, or one with such a folder `val`; None: the data set's own place. Raises UsageError where it is none.
    """
    if path is None and dataset in imagenet.NAMES and dataset != "imagenet":
        found = datasets.load(dataset)
        return found.test, found.classes
    path = Path(path or imagenet.folder())
    if (path / "train").is_dir() and (path / "val").is_dir():
        found = imagenet.photographs(dataset, path)
        return found.test, found.classes
    searched = [path / "val", path]
    found = next((each for each in searched if each.is_dir() and any(p.is_dir() for p in each.iterdir())), None)
    if found is None:
        raise UsageError(
            f"no folder of images, one subfolder for each class, at {searched[0]} or {searched[1]}: give its path with "
            f"--data"
        )
    names, files = imagenet.by_class(found)
    return files, len(names)


def _answered(batches):
    """The batches; a UsageError that comes from a worker process loses the traceback that is put before its line."""
    try:
        yield from batches
    except UsageError as error:
        raise UsageError(str(error).strip().rpartition("UsageError: ")[2]) from None


def _words(images):
    mean, std = (", ".join(f"{value:.4g}" for value in images[name]) for name in ("mean", "std"))
    return f"mean ({mean}), standard deviation ({std}) of values from 0 to 1"
