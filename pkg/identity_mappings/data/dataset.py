"""A data set in memory, in an order and with a checksum that do not depend on where its files came from."""

import hashlib
import os
from dataclasses import dataclass, replace

import numpy as np

from ..errors import folder


@dataclass(frozen=True)
class Dataset:
    """Images (n, h, w, c) uint8 and labels (n,) int64, train and test, with the number of classes."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    checksum: str = ""

    def canonical(self):
        """The same images sorted by their digests, with the checksum of that order.

        CIFAR comes in several containers that hold the same images in different orders. A run draws its batches by
        index, so that without this the same seed would train on different batches depending on the container.
        """
        train, test = (_digests(x, y) for x, y in ((self.x_train, self.y_train), (self.x_test, self.y_test)))
        i, j = np.argsort(train), np.argsort(test)
        checksum = hashlib.sha256(b"".join([*train[i], *test[j]])).hexdigest()
        return replace(
            self,
            x_train=self.x_train[i],
            y_train=self.y_train[i].astype(np.int64),
            x_test=self.x_test[j],
            y_test=self.y_test[j].astype(np.int64),
            checksum=checksum,
        )

    def halved(self):
        """The same images at half their height and width, in the same order: each pixel the mean of 2x2, rounded.

        The checksum stays that of the images that these are made from.
        """
        return replace(
            self, name=f"{self.name}-16", x_train=_means_of_four(self.x_train), x_test=_means_of_four(self.x_test)
        )

    def without(self, part, parts):
        """The training images without one of `parts` equal parts, and that part as the test images.

        The canonical order is by digest, so that every parts-th image is a sample as good as a drawn one.
        """
        held = np.arange(len(self.x_train)) % parts == part % parts
        x, y = self.x_train, self.y_train
        return replace(self, x_train=x[~held], y_train=y[~held], x_test=x[held], y_test=y[held])


def _means_of_four(images):
    """(n, h, w, c) uint8 -> (n, h / 2, w / 2, c) uint8: means over 2x2 pixels, halves rounded up, in whole numbers."""
    n, h, w, c = images.shape
    # one row and column of each square at a time: 16-bit sums of whole images would take gigabytes
    total = sum(images[:, i::2, j::2].astype(np.uint16) for i in (0, 1) for j in (0, 1))
    return ((total + 2) // 4).astype(np.uint8)


def _digests(images, labels):
    """SHA-256 of each image's bytes and label, as an array of 32-byte objects."""
    digests = np.empty(len(images), dtype=object)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        digests[k] = hashlib.sha256(image.tobytes() + int(label).to_bytes(2, "little")).digest()
    return digests


def data_dir():
    """Where downloaded data sets are kept: $IDENTITY_MAPPINGS_DATA, else a folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("IDENTITY_MAPPINGS_DATA") or f"{cache}/identity-mappings"
    return folder(chosen, "IDENTITY_MAPPINGS_DATA")
