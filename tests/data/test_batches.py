"""Batches against padding, cropping and flipping written out in NumPy, and the stream that they are cut from."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_mappings.data import Dataset
from identity_mappings.data.batches import Batches, Images
from identity_mappings.experiments.protocols import CIFAR

PAD = 2


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (n, 4, 6, 3), dtype=np.uint8) for n in (12, 5)]
    labels = [np.arange(len(part)) for part in images]
    return Dataset("toy", images[0], labels[0], images[1], labels[1], classes=12)


def statistics(dataset, normalisation):
    x = dataset.x_train.astype(float)
    mean = x.mean(0) if normalisation == "pixel" else x.mean((0, 1, 2))
    return mean, x.std((0, 1, 2))


@pytest.mark.parametrize("normalisation", ["pixel", "channel"])
@pytest.mark.parametrize("pad_value", ["mean", "black"])
def test_augmented_is_pad_crop_flip(dataset, normalisation, pad_value):
    train, _ = Images.pair(dataset, normalisation, "cpu")
    mean, std = statistics(dataset, normalisation)
    draws = [(k % 12, *place) for k, place in enumerate(product(range(5), range(5), (0, 1)))]
    expected = []
    for index, down, right, flip in draws:
        x, margins = dataset.x_train[index].astype(float), ((PAD, PAD), (PAD, PAD), (0, 0))
        x = np.pad((x - mean) / std, margins) if pad_value == "mean" else np.pad(x, margins)
        x = x[down : down + 4, right : right + 6]
        x = x[:, ::-1] if flip else x
        expected.append(x if pad_value == "mean" else (x - mean) / std)
    index, down, right, flip = torch.tensor(draws).T
    images, labels = train.augmented(index, down, right, flip.bool(), PAD, pad_value)
    assert images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), np.stack(expected), atol=1e-5)
    assert labels.tolist() == [k % 12 for k in range(len(draws))]


def test_padding_is_at_the_mean(dataset):
    train, _ = Images.pair(dataset, "pixel", "cpu")
    corner, no = torch.zeros(12, dtype=torch.int64), torch.zeros(12, dtype=torch.bool)
    images, _ = train.augmented(torch.arange(12), corner, corner, no, PAD, "mean")
    assert (images[:, :, :PAD] == 0).all() and (images[:, :, :, :PAD] == 0).all()
    torch.testing.assert_close(images[:, :, PAD:, PAD:].mean(0), torch.zeros(3, 2, 4), atol=1e-5, rtol=0)


def test_test_images_are_normalised_by_the_training_images(dataset):
    _, test = Images.pair(dataset, "pixel", "cpu")
    mean, std = statistics(dataset, "pixel")
    images, labels = test.plain(1, 4)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), (dataset.x_test[1:4] - mean) / std, atol=1e-5)
    assert labels.tolist() == [1, 2, 3]


def stream(dataset, seed=0, batch=5, **changes):
    train, _ = Images.pair(dataset, "pixel", "cpu")
    return Batches(train, replace(CIFAR, batch=batch, pad=PAD, **changes), seed)


def draws(batches, iteration):
    """The draws of an iteration, by the counter, once its tables are there."""
    batches.bring(iteration)
    return batches.draws(torch.tensor([iteration]))


def by_hand(seed, iteration, batch, n=12):
    """The same out of NumPy's stream for each epoch, laid end to end from the first on."""
    tables = []
    for epoch in range((iteration + 1) * batch // n + 1):
        random = np.random.RandomState([seed, epoch])
        tables.append([random.permutation(n), *(random.randint(0, high, n) for high in (2 * PAD + 1, 2 * PAD + 1, 2))])
    return np.concatenate(tables, axis=1)[:, iteration * batch : (iteration + 1) * batch]


@given(st.integers(0, 99), st.integers(1, 40), st.lists(st.integers(0, 50), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_run_sees_is_a_function_of_seed_and_iteration(dataset, seed, batch, iterations):
    """Whatever the batch is to the epoch, and in whatever order iterations come: a resumed run jumps."""
    batches = stream(dataset, seed, batch)
    for iteration in iterations:
        assert np.array_equal(draws(batches, iteration), by_hand(seed, iteration, batch))


def test_the_batch_of_a_counter_is_the_images_at_its_draws(dataset):
    batches = stream(dataset)
    index, down, right, flip = draws(batches, 2)
    expected = batches.images.augmented(index, down, right, flip.bool(), PAD, "mean")
    assert all(torch.equal(a, b) for a, b in zip(batches.at(torch.tensor([2])), expected, strict=True))


def test_an_epoch_is_a_permutation_and_batches_span_epochs(dataset):
    batches = stream(dataset)
    drawn = torch.cat([draws(batches, iteration)[0] for iteration in range(12)])
    assert len(drawn) == 60
    epochs = drawn.reshape(5, 12).tolist()
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_an_epochs_tables_are_brought_half_an_epoch_ahead(dataset):
    """Of 12 images in batches of 3: the third batch of an epoch brings those of the next, and none is made twice."""
    batches, made, known = stream(dataset, batch=3), [], []
    real, batches.tables = batches.tables, lambda epoch: made.append(epoch) or real(epoch)
    for iteration in range(7):
        batches.bring(iteration)
        known.append(len(made))
    assert made == [0, 1, 2] and known == [1, 1, 2, 2, 2, 2, 3]


def test_a_batch_larger_than_the_data(dataset):
    drawn = draws(stream(dataset, batch=30), 1)[0]
    assert np.bincount(drawn).max() <= 4 and len(drawn) == 30


def test_the_same_seed_draws_the_same_from_any_iteration_on(dataset):
    onward = [draws(stream(dataset), iteration) for iteration in range(9)]  # each from a fresh stream
    batches = stream(dataset)
    assert all(torch.equal(draws(batches, iteration), draw) for iteration, draw in enumerate(onward))
    assert not torch.equal(draws(stream(dataset, seed=1), 0), onward[0])


def test_crops_and_flips_take_every_value(dataset):
    drawn = torch.cat([draws(stream(dataset), iteration) for iteration in range(40)], dim=1)
    assert [row.unique().tolist() for row in drawn[1:]] == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1]]
    still = torch.cat([draws(stream(dataset, flip=False), iteration) for iteration in range(9)], dim=1)
    assert (still[3] == 0).all()
