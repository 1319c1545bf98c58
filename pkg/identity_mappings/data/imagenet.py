"""ILSVRC 2012 as a user has it: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG in one folder, found, checked and listed.

It can be neither shipped nor downloaded freely. A validation folder that is still flat, as its archive unpacks, is read
with the ground truth of the development kit beside it, and stays as it is. Folders of other pictures are read likewise.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from . import drawn
from .dataset import data_dir

PLACE = "IDENTITY_MAPPINGS_IMAGENET"  # the environment's variable for the folder
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
CLASSES = 1000

# The smaller data sets have every so many-th class in alphabetical order of the wnids: some of every kind of thing.
EVERY = {"imagenet": 1, "imagenet-100": 10, "imagenet-10": 100}
NAMES = ("drawn", *EVERY)
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # of pictures, torchvision's


@dataclass(frozen=True)
class Files:
    """Pictures under `root`: their paths there, (n,) bytes, and labels (n,) int64, sorted by path."""

    root: Path
    paths: np.ndarray
    labels: np.ndarray
    bytes: np.ndarray

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        """The whole path of a picture."""
        return self.root / self.paths[index].decode()


@dataclass(frozen=True)
class Photographs:
    """Training and test pictures by class, as files. checksum: of their paths and sizes, not of what is in them."""

    name: str
    train: Files
    test: Files
    names: tuple

    @property
    def classes(self):
        return len(self.names)

    @property
    def checksum(self):
        found = hashlib.sha256()
        for files in (self.train, self.test):
            for path, size in zip(files.paths, files.bytes, strict=True):
                found.update(b"%s %d\n" % (path, size))
        return found.hexdigest()


def folder():
    """Where ImageNet is looked for: $IDENTITY_MAPPINGS_IMAGENET, else `imagenet` in the data folder."""
    chosen = os.environ.get(PLACE)
    return Path(chosen).expanduser() if chosen else data_dir() / "imagenet"


def choose_folder(path):
    """Have this process, and those that it starts, look for ImageNet at `path`; None changes nothing."""
    if path:
        os.environ[PLACE] = str(Path(path).expanduser().resolve())


def load(name):
    """The `Photographs` of one of NAMES. Raises UsageError where they are not there as they must."""
    if name == "drawn":
        return photographs(name, drawn.folder())
    found = photographs("imagenet", folder())
    if found.classes != CLASSES:
        raise UsageError(
            f"ImageNet must have {CLASSES} classes, each a folder under {found.train.root}; got {found.classes}: "
            f"complete it, or name another folder with --data"
        )
    return found if name == "imagenet" else _some(name, found, np.arange(0, CLASSES, EVERY[name]))


def photographs(name, root):
    """The `Photographs` of a folder with train and val. Raises UsageError, with the layout, where it is none."""
    root = Path(root)
    missing = [part for part in ("train", "val") if not (root / part).is_dir()]
    if missing:
        raise UsageError(
            f"{name} needs train/<class>/*.JPEG and val/<class>/*.JPEG in one folder; there is no {root / missing[0]}: "
            f"unpack ILSVRC 2012 there (image-net.org gives it to those who register), or name its folder with --data "
            f"or ${PLACE}"
        )
    names, train = by_class(root / "train")
    if _is_flat(root / "val"):
        test = _flat(root / "val", names)
    else:
        names_of_test, test = by_class(root / "val")
        if names_of_test != names:
            other = sorted(set(names) ^ set(names_of_test))
            raise UsageError(
                f"{root / 'train'} and {root / 'val'} must have the same classes; {len(other)} are in one of them only "
                f"({other[0]}): complete them"
            )
    return Photographs(name, train, test, names)


def by_class(root):
    """(class names, their `Files`) of a folder with a subfolder of pictures for each class, in alphabetical order.

    Raises UsageError where there is no subfolder, or one without a picture.
    """
    root = Path(root)
    names = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir()))
    if not names:
        raise UsageError(f"{root} must hold a subfolder of pictures for each class; it has none")
    paths, labels, sizes = [], [], []
    for label, name in enumerate(names):
        listed = _listed(root / name)
        if not listed:
            raise UsageError(f"{root / name} must hold images; it holds none")
        paths += [f"{name}/{file}" for file, _ in listed]
        sizes += [size for _, size in listed]
        labels += [label] * len(listed)
    return names, _files(root, paths, labels, sizes)


def _listed(place):
    """[(name, bytes)] of the pictures in a folder, by name."""
    return sorted((e.name, e.stat().st_size) for e in os.scandir(place) if e.name.lower().endswith(ENDINGS))


def _files(root, paths, labels, sizes):
    # arrays: a list of a million strings would be copied into each loader process, page by page, as it is counted
    encoded = np.array([path.encode() for path in paths])
    return Files(root, encoded, np.array(labels, dtype=np.int64), np.array(sizes, dtype=np.int64))


def _is_flat(place):
    return not any(entry.is_dir() for entry in os.scandir(place)) and bool(_listed(place))


def _flat(place, names):
    """The `Files` of a flat validation folder, labelled by the development kit that lies beside it."""
    from torchvision.datasets import imagenet as torchvisions  # its import takes as long as torch's

    root = place.parent
    try:
        if not (root / torchvisions.META_FILE).exists():
            torchvisions.parse_devkit_archive(root)
        _, truth = torchvisions.load_meta_file(root)
    except (OSError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"{place} is flat, and its labels stand in {DEVKIT}; they cannot be had from {root} ({error}): put that "
            f"file there, or sort the pictures into a subfolder for each class"
        ) from error
    listed = _listed(place)
    if len(listed) != len(truth):
        raise UsageError(
            f"{place} must hold the {len(truth):,} pictures of the ground truth; got {len(listed):,}: unpack "
            f"ILSVRC2012_img_val.tar there again"
        )
    unknown = set(truth) - set(names)
    if unknown:
        raise UsageError(f"{root / 'train'} has no {min(unknown)}, of which {place} has pictures: complete the classes")
    place_of = {name: label for label, name in enumerate(names)}
    return _files(place, [file for file, _ in listed], [place_of[name] for name in truth], [size for _, size in listed])


def _some(name, found, kept):
    """The classes `kept`, (k,) labels in ascending order, labelled anew from 0."""

    def part(files):
        inside = np.isin(files.labels, kept)
        labels = np.searchsorted(kept, files.labels[inside])
        return Files(files.root, files.paths[inside], labels, files.bytes[inside])

    names = tuple(found.names[k] for k in kept)
    return Photographs(name, part(found.train), part(found.test), names)
