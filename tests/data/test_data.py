"""The data sets: the digits as they ship, an order that does not depend on the source, and files that are not right."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from identity_mappings import UsageError
from identity_mappings.data import Dataset, load

REAL = Path(os.environ.get("IDENTITY_MAPPINGS_DATA", "")) / "cifar10.npz"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name, train, test, classes, checksum",
    [
        ("digits", (1347, 8, 8, 1), (450, 8, 8, 1), 10, "861c4bb4890b4cae"),
        ("digit-pairs", (6000, 8, 16, 1), (1000, 8, 16, 1), 100, "1d89106af778f1af"),
    ],
)
def test_smoke_data(name, train, test, classes, checksum):
    data = load(name)
    assert (data.x_train.shape, data.x_test.shape, data.classes) == (train, test, classes)
    assert (data.x_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    assert data.x_train.min() == 0 and data.x_train.max() == 255
    assert set(data.y_train) == set(data.y_test) == set(range(classes))
    assert data.checksum[:16] == checksum


def test_no_test_digit_is_in_a_training_pair():
    """Halves of the pairs are digits; those of the test images never occur among the training images'."""
    data = load("digit-pairs")

    def halves(images):
        return {half.tobytes() for image in images for half in (image[:, :8], image[:, 8:])}

    single = load("digits")
    assert halves(data.x_train) <= {image.tobytes() for image in single.x_train}
    assert halves(data.x_test) <= {image.tobytes() for image in single.x_test}


def toy(seed):
    random = np.random.default_rng(3)
    x, y = random.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8), random.integers(0, 10, 20)
    train, test = np.random.default_rng(seed).permutation(15), 15 + np.random.default_rng(seed).permutation(5)
    return Dataset("toy", x[train], y[train], x[test], y[test], classes=10)


def test_canonical_order_does_not_depend_on_the_source():
    one, other = toy(0).canonical(), toy(1).canonical()
    assert one.checksum == other.checksum
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(one, part), getattr(other, part))
        assert not np.array_equal(getattr(toy(0), part), getattr(toy(1), part))


def test_halved_images_are_means_of_two_by_two():
    data = toy(0).canonical()
    halved = data.halved()
    means = data.x_train.reshape(15, 2, 2, 2, 2, 3).astype(float).mean((2, 4))
    assert np.array_equal(halved.x_train, np.floor(means + 0.5)) and halved.x_train.dtype == np.uint8
    assert halved.x_test.shape == (5, 2, 2, 3) and np.array_equal(halved.y_test, data.y_test)
    assert halved.name == "toy-16" and halved.checksum == data.checksum  # what they are made from


def test_the_checksum_sees_a_pixel_and_a_label():
    data = toy(0)
    pixel, label = data.x_train.copy(), data.y_test.copy()
    pixel[3, 1, 2, 0] ^= 1
    label[0] = (label[0] + 1) % 10
    changed = [replace(data, x_train=pixel), replace(data, y_test=label), data]
    assert len({d.canonical().checksum for d in changed}) == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_says_where_and_what_to_do(folder, name):
    with pytest.raises(UsageError) as caught:
        load(name)
    assert str(folder) in str(caught.value)
    assert f"invoke data --dataset {name}" in str(caught.value)


def test_unknown_data_set():
    with pytest.raises(UsageError, match="dataset must be one of: cifar10.*got 'cifar'"):
        load("cifar")


def arrays(count=10, side=32):
    x, y = np.zeros((count, side, side, 3), np.uint8), np.zeros(count, np.int64)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}


def not_a_zip(path):
    path.write_bytes(b"these are no images")


def cut_short(path):
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.touch()


def without_labels(path):
    np.savez(path, x_train=np.zeros(3), x_test=np.zeros(3))


def flipped_inside(path):
    """The zip's directory is whole, but the compressed bytes of an array are not."""
    np.savez_compressed(path, **{key: np.arange(4_000) for key in ("x_train", "y_train", "x_test", "y_test")})
    content = bytearray(path.read_bytes())
    middle = content.index(b"x_train.npy") + 200
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


def of_objects(path):
    """Pickled objects, which are never loaded: a pickle may run code."""
    np.savez(path, **{key: np.array([{}], dtype=object) for key in ("x_train", "y_train", "x_test", "y_test")})


def a_single_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


DAMAGES = [not_a_zip, cut_short, empty, without_labels, flipped_inside, of_objects, a_single_array]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_npz(folder, damage):
    damage(folder / "cifar10.npz")
    with pytest.raises(UsageError, match="cifar10.npz must be an NPZ with x_train.*invoke data --dataset cifar10"):
        load("cifar10")


@pytest.mark.parametrize("count, side", [(10, 32), (10, 28)])
def test_npz_of_another_shape(folder, count, side):
    np.savez(folder / "cifar10.npz", **arrays(count, side))
    with pytest.raises(UsageError, match=rf"expected 50000 train images .*got \({count}, {side}, {side}, 3\)"):
        load("cifar10")


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """Makes an NPZ of CIFAR-10's shape in which all images are black and all labels but one are zero."""
    path = tmp_path_factory.mktemp("blank") / "cifar10.npz"

    def make(part, label):
        content = {}
        for name, count in (("train", 50_000), ("test", 10_000)):
            content[f"x_{name}"] = np.broadcast_to(np.uint8(0), (count, 32, 32, 3))
            content[f"y_{name}"] = np.zeros(count, np.int64)
        content[f"y_{part}"][17] = label
        np.savez_compressed(path, **content)
        return path.parent

    return make


@pytest.mark.parametrize(
    "part, label, message",
    [
        ("train", 10, "expected train labels from 0 to 9; got 0 to 10: delete it and run: invoke data"),
        ("test", -1, "expected test labels from 0 to 9; got -1 to 0: delete it and run: invoke data"),
        ("train", 9, "cifar10.npz is damaged: checksum [0-9a-f]{16}, expected e5d41593a0ffdaf1: delete it and run"),
    ],
)
def test_npz_with_other_labels_or_images(blank, monkeypatch, part, label, message):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(blank(part, label)))
    with pytest.raises(UsageError, match=message) as caught:
        load("cifar10")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not REAL.is_file(), reason="$IDENTITY_MAPPINGS_DATA holds no cifar10.npz")
def test_the_real_cifar_10():
    data = load("cifar10")
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert np.bincount(data.y_train).tolist() == [5_000] * 10
    assert np.bincount(data.y_test).tolist() == [1_000] * 10
    means = data.x_train.mean((0, 1, 2))
    np.testing.assert_allclose(means, [125.3, 123.0, 113.9], atol=0.1)  # the channel means that everyone quotes
