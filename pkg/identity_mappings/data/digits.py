"""scikit-learn's handwritten digits, for the smoke tier: they ship with the package, so that nothing is downloaded."""

import numpy as np

from ..errors import UsageError
from .dataset import Dataset

TEST_IMAGES = 450  # of 1797
PAIRS = {"train": 60, "test": 10}  # composed images of each two-digit number


def _split():
    """(x_train, y_train, x_test, y_test) of the single digits: images (n, 8, 8, 1) uint8, a fixed random split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError(
            "the smoke tier needs scikit-learn's digits; it is not installed: pip install scikit-learn"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # stored as counts of 0 to 16
    shuffled = np.random.RandomState(0).permutation(len(images))  # the legacy stream is the same in every NumPy
    test, train = shuffled[:TEST_IMAGES], shuffled[TEST_IMAGES:]
    return images[train], labels[train], images[test], labels[test]


def digits():
    """1347 training and 450 test images of 8x8, ten classes."""
    return Dataset("digits", *_split(), classes=10).canonical()


def digit_pairs():
    """Two digits side by side, 8x16, a hundred classes; a test image holds test digits only."""
    x_train, y_train, x_test, y_test = _split()
    random = np.random.RandomState(0)
    train = _compose(x_train, y_train, PAIRS["train"], random)
    test = _compose(x_test, y_test, PAIRS["test"], random)
    return Dataset("digit-pairs", *train, *test, classes=100).canonical()


def _compose(images, labels, count, random):
    """`count` images of every number 00 to 99, each digit drawn from `images`."""
    numbers = np.repeat(np.arange(100), count)
    drawn = {digit: random.choice(np.flatnonzero(labels == digit), 20 * count) for digit in range(10)}
    taken = dict.fromkeys(range(10), 0)

    def take(digit):
        taken[digit] += 1
        return images[drawn[digit][taken[digit] - 1]]

    pairs = [np.concatenate([take(number // 10), take(number % 10)], axis=1) for number in numbers]
    return np.stack(pairs), numbers
