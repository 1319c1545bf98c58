"""The state of one run: what lies on the device, how far it is, and its results so far."""

import time
from functools import lru_cache

import torch

from ..data import load
from ..data.batches import Images
from ..data.pictures import Pictures
from ..experiments.protocols import ImageNetProtocol
from . import distributed
from .capture import faster, uncompiled
from .memory import cores, free, recomputes
from .step import Step

EVALUATION_BATCH = 500
POINTS = 20  # of a curve at least, where there are as many iterations
SAMPLE = 2_000  # test images of an entry that is no epoch's: all would take a fifth of a pocket run
CURVE = ("iteration", "rate", "train_loss", "train_error", "test_error")


def by_epochs(protocol, images):
    """Whether a run on so many images enters its curve once an epoch: where that gives more than POINTS entries."""
    return protocol.batch * protocol.iterations > POINTS * images


def due(iteration, protocol, images):
    """Whether a run on so many images has an entry of its curve due after that many iterations.

    Once an epoch and at the last iteration; where that would give fewer than POINTS, as many times at even distances.
    """
    entries, iterations = (protocol.batch, images) if by_epochs(protocol, images) else (POINTS, protocol.iterations)
    last = iteration == protocol.iterations
    return last or iteration * entries // iterations > (iteration - 1) * entries // iterations


def images(recipe, seed, device):
    """(training images, test images, checksum) of a run, once a process: runs of the same data share them."""
    if isinstance(recipe.protocol, ImageNetProtocol):
        return _pictures(recipe.dataset, recipe.protocol, device)
    part = None if recipe.folds is None else seed % recipe.folds
    return _images(recipe.dataset, part, recipe.folds, recipe.protocol.normalisation, device)


@lru_cache(maxsize=2)
def _images(dataset, part, parts, normalisation, device):
    data = load(dataset)
    if parts is not None:
        data = data.without(part, parts)
    return *Images.pair(data, normalisation, device), data.checksum


def _pictures(dataset, protocol, device):
    """(training `Pictures`, test `Pictures`, checksum) of a data set in files."""
    photographs = _photographs(dataset)
    workers = 0 if device == "cpu" else max(1, cores() // distributed.beside())
    train, test = (Pictures(files, protocol, device, workers) for files in (photographs.train, photographs.test))
    return train, test, photographs.checksum


_photographs = lru_cache(maxsize=1)(load)  # a folder of a million files is listed once a process


class State:
    """Everything about a run that the next iteration reads: weights, velocity, running statistics, random streams.

    What lies on the device is the `Step`'s. The run's results so far are here: `curve`, one list a column of CURVE
    (percent for errors; the training columns average over the iterations since the last entry). The test error of an
    entry that is no epoch's is of the first `sample` test images, which are in a random order; the last entry's, which
    is the run's result, is of all, and so are all entries where `sample` is None.
    """

    def __init__(self, recipe, seed, device, precision):
        self.recipe, self.protocol, self.seed = recipe, recipe.protocol, seed
        train, self.test, self.data_checksum = images(recipe, seed, device)
        self.on_device = self._begun(train, device, precision)
        self.take = self.on_device  # an iteration: the step itself, or its recording
        self.device, self.precision = self.on_device.device, precision
        self.network, self.batches = self.on_device.network, self.on_device.batches
        torch.manual_seed(seed)  # dropout draws from torch's own streams
        self.iteration, self.seconds, self.device_seconds = 0, 0.0, 0.0
        self.curve = {column: [] for column in CURVE}
        self.summed = 0
        self.sample = self._sample(len(train))

    def _sample(self, trained):
        """How many test images an entry of the curve before the last is of; None for all."""
        return None if by_epochs(self.protocol, trained) or len(self.test) <= SAMPLE else SAMPLE

    def _begun(self, train, device, precision):
        """The `Step` at its first iteration."""
        recompute = recomputes(self.recipe, train.size, precision, free(device))
        return Step(self.recipe.network, train, self.protocol, self.seed, device, precision, recompute)

    def speed_up(self, say):
        """Take the following iterations the fastest way there is; see `capture.faster`."""
        self.batches.bring(self.iteration)
        self.take = faster(self.on_device, say)

    def step(self):
        """One iteration of the protocol; the host's share of it."""
        self.batches.bring(self.iteration)
        self.take()
        self.summed += 1
        self.iteration += 1

    @property
    def finished(self):
        return self.iteration >= self.protocol.iterations

    @property
    def due(self):
        """Whether an entry of the curve is due."""
        return due(self.iteration, self.protocol, len(self.batches.images))

    def enter(self):
        """Add an entry to the curve. Returns whether the training loss is still finite."""
        sums = self.on_device.loss_sum, self.on_device.wrong_sum
        loss = float(sums[0]) / self.summed
        wrong = 100.0 * int(sums[1]) / (self.summed * self.protocol.batch)
        finite = loss - loss == 0.0
        tested = self.test_error(None if self.finished else self.sample) if finite else None
        entry = (self.iteration, self.protocol.rate(self.iteration - 1), loss if finite else None, wrong, tested)
        for column, value in zip(CURVE, entry, strict=True):
            self.curve[column].append(value)
        for part in sums:
            part.zero_()
        self.summed = 0
        return finite

    @torch.no_grad()
    def test_error(self, count=None):
        """Percent of the first `count` test images (None: of all) that the network, in evaluation mode, gets wrong."""
        count = count or len(self.test)
        self.network.eval()
        with uncompiled(self.device):
            wrong = self._wrong(count)
        self.network.train()
        return 100.0 * int(wrong) / count

    def _wrong(self, count):
        wrong = torch.zeros((), device=self.device, dtype=torch.int64)
        for start in range(0, count, EVALUATION_BATCH):
            batch, labels = self.test.plain(start, min(start + EVALUATION_BATCH, count))
            with self.on_device.autocast():
                logits = self.network(batch)
            wrong += (logits.argmax(1) != labels).sum()
        return wrong

    def results(self):
        """What the record keeps of the run, by name."""
        return {"curve": self.curve} | ({} if self.sample is None else {"curve_test_images": self.sample})

    def to_dict(self):
        """The state as tensors and plain values, for a checkpoint."""
        cuda = self.device.type == "cuda"
        return {
            "iteration": self.iteration,
            "tensors": self.on_device.tensors(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None},
            "curve": self.curve,
            "summed": self.summed,
            "seconds": (self.seconds, self.device_seconds),
        }

    def load_dict(self, saved):
        """Go on from what `to_dict` gave."""
        self.iteration = saved["iteration"]
        for name, tensor in self.on_device.tensors().items():
            tensor.copy_(saved["tensors"][name])
        torch.set_rng_state(saved["random"]["cpu"].cpu())
        if saved["random"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["random"]["cuda"].cpu())
        self.curve, self.summed = saved["curve"], saved["summed"]
        self.seconds, self.device_seconds = saved["seconds"]


class Clock:
    """Adds the time since the last reading to a state: wall seconds, and the CPU's busy seconds or the GPU's time."""

    def __init__(self, state):
        self.state = state
        self.wall, self.busy = time.perf_counter(), time.process_time()

    def read(self):
        wall, busy = time.perf_counter(), time.process_time()
        self.state.seconds += wall - self.wall
        self.state.device_seconds += (busy - self.busy) if self.state.device.type == "cpu" else (wall - self.wall)
        self.wall, self.busy = wall, busy
