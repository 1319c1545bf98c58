"""The state of one run: what lies on the device, how far it is, and its results so far."""

import time
from functools import lru_cache

import torch

from ..data import jpeg, load
from ..data.batches import Images
from ..data.pictures import Pictures
from ..experiments.protocols import ImageNetProtocol
from ..hardware import cores
from ..iteration.capture import COMPILED, Way, faster, uncompiled
from ..iteration.memory import evaluated_at_once, free, recomputes
from ..iteration.step import Step
from . import distributed

LOADERS = 16  # processes of each run at most: 4,000 crops a second by book/loader.json, more than a GPU trains on
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
    workers = 0 if device == "cpu" else min(LOADERS, max(1, cores() // distributed.beside()))
    train = Pictures(photographs.train, protocol, device, workers, on_device=jpeg.on_gpu(device))
    return train, Pictures(photographs.test, protocol, device, workers), photographs.checksum


_photographs = lru_cache(maxsize=1)(load)  # a folder of a million files is listed once a process


class State:
    """Everything about a run that the next iteration reads: weights, velocity, running statistics, random streams.

    What lies on the device is the `Step`'s. The run's results so far are here: `curve`, one list a column of CURVE
    (percent for errors; the training columns average over the iterations since the last entry). The test error of an
    entry that is no epoch's is of the first `sample` test images, which are in a random order; the last entry's, which
    is the run's result, is of all, and so are all entries where `sample` is None.
    """

    def __init__(self, recipe, seed, device, precision, recompute=False):
        self.recipe, self.protocol, self.seed = recipe, recipe.protocol, seed
        train, self.test, self.data_checksum = images(recipe, seed, device)
        self.on_device = self._begun(train, device, precision, recompute)
        self.way = Way(self.on_device)  # to take an iteration
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

    def _begun(self, train, device, precision, recompute):
        """The `Step` at its first iteration; recompute: whether to in any case."""
        recompute = recompute or recomputes(self.recipe, train.size, precision, free(device))
        return Step(self.recipe.network, train, self.protocol, self.seed, device, precision, recompute)

    def speed_up(self, say, begin=COMPILED):
        """Take the iterations that are left the fastest way there is, of those from `begin`; see `capture.faster`."""
        if self.finished:  # after the last iteration there are no batch and no rate to try a way with
            return
        self.batches.bring(self.iteration)
        self.way = faster(self.on_device, say, begin)

    def step(self):
        """One iteration of the protocol; the host's share of it."""
        self.batches.bring(self.iteration)
        self.way.take()
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
        at_once = EVALUATION_BATCH
        if self.device.type != "cpu":  # few launches: the device is to be busy, not the host
            at_once = evaluated_at_once(self.recipe.network, self.test.size, self.precision)
        with uncompiled(self.device):
            wrong = mistakes(self.on_device, self.test, count, at_once)
        self.network.train()
        return 100.0 * int(wrong) / count

    def results(self):
        """What the record keeps of the run, by name."""
        return {"curve": self.curve} | ({} if self.sample is None else {"curve_test_images": self.sample})

    def to_dict(self):
        """The state as tensors and plain values, for a checkpoint."""
        cuda = self.device.type == "cuda"
        return {
            "iteration": self.iteration,
            "tensors": self.on_device.packed(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None},
            "curve": self.curve,
            "summed": self.summed,
            "seconds": (self.seconds, self.device_seconds),
        }

    def load_dict(self, saved):
        """Go on from what `to_dict` gave."""
        self.iteration = saved["iteration"]
        self.on_device.unpack(saved["tensors"])
        torch.set_rng_state(saved["random"]["cpu"].cpu())
        if saved["random"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["random"]["cuda"].cpu())
        self.curve, self.summed = saved["curve"], saved["summed"]
        self.seconds, self.device_seconds = saved["seconds"]


@torch.no_grad()
def mistakes(step, images, count, at_once):
    """How many of the first `count` images a step's network gets wrong, a tensor on its device; so many at a time."""
    wrong = torch.zeros((), device=step.device, dtype=torch.int64)
    with step.copies.read(), step.autocast():
        for start in range(0, count, at_once):
            batch, labels = images.plain(start, min(start + at_once, count))
            logits = step.network(batch.contiguous(memory_format=step.memory_format))
            wrong += (logits.argmax(1) != labels).sum()
    return wrong


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
