"""The state of one run, and the one step that takes it from an iteration to the next."""

import time
from functools import lru_cache

import torch
from torch.nn import functional as F

from ..data import load
from ..data.batches import Batches, Images
from ..networks import initialise
from ..norm import BatchNorm2d, set_group
from .sgd import SGD

EVALUATION_BATCH = 500
CURVE = ("iteration", "rate", "train_loss", "train_error", "test_error")


@lru_cache(maxsize=2)
def _images(dataset, part, parts, normalisation, device):
    """(training images, test images, checksum), once a process: runs of the same data share them."""
    data = load(dataset)
    if parts is not None:
        data = data.without(part, parts)
    return *Images.pair(data, normalisation, device), data.checksum


class State:
    """Everything about a run that the next iteration reads: weights, velocity, running statistics, random streams.

    The run's results so far are here too: `curve`, one list a column of CURVE (percent for errors; the training
    columns average over the iterations since the last entry), and the sums of the entry under way.
    """

    def __init__(self, recipe, seed, device, precision):
        self.recipe, self.protocol, self.seed = recipe, recipe.protocol, seed
        self.device, self.precision = torch.device(device), precision
        part = None if recipe.folds is None else seed % recipe.folds
        train, self.test, self.data_checksum = _images(
            recipe.dataset, part, recipe.folds, self.protocol.normalisation, device
        )
        self.batches = Batches(train, self.protocol, seed)
        network = initialise(recipe.network.build(), torch.Generator().manual_seed(seed))
        for module in network.modules():
            if isinstance(module, BatchNorm2d):
                module.momentum, module.eps = self.protocol.bn_momentum, self.protocol.bn_eps
        set_group(network, self.protocol.bn_group)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.sgd = SGD(self.network, self.protocol)
        torch.manual_seed(seed)  # dropout draws from torch's own streams
        self.iteration, self.seconds, self.device_seconds = 0, 0.0, 0.0
        self.curve = {column: [] for column in CURVE}
        self.loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        self.wrong_sum = torch.zeros((), device=self.device, dtype=torch.int64)
        self.summed = 0

    def step(self):
        """One iteration of the protocol: batch, loss, gradients, update."""
        images, labels = self.batches[self.iteration]
        self.network.train()
        with self._autocast():
            logits = self.network(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        self.sgd.step(self.iteration)
        self.loss_sum += loss.detach()
        self.wrong_sum += (logits.detach().argmax(1) != labels).sum()
        self.summed += 1
        self.iteration += 1

    @property
    def finished(self):
        return self.iteration >= self.protocol.iterations

    @property
    def due(self):
        """Whether an entry of the curve is due: once an epoch, and at the last iteration."""
        n, batch = len(self.batches.images), self.protocol.batch
        return self.finished or self.iteration * batch // n > (self.iteration - 1) * batch // n

    def enter(self):
        """Add an entry to the curve. Returns whether the training loss is still finite."""
        loss = float(self.loss_sum) / self.summed
        wrong = 100.0 * int(self.wrong_sum) / (self.summed * self.protocol.batch)
        finite = loss - loss == 0.0
        entry = (self.iteration, self.protocol.rate(self.iteration - 1), loss if finite else None, wrong)
        for column, value in zip(CURVE, (*entry, self.test_error() if finite else None), strict=True):
            self.curve[column].append(value)
        self.loss_sum.zero_()
        self.wrong_sum.zero_()
        self.summed = 0
        return finite

    @torch.no_grad()
    def test_error(self):
        """Percent of all test images that the network, in evaluation mode, gets wrong."""
        self.network.eval()
        wrong = torch.zeros((), device=self.device, dtype=torch.int64)
        for start in range(0, len(self.test), EVALUATION_BATCH):
            images, labels = self.test.plain(start, start + EVALUATION_BATCH)
            with self._autocast():
                logits = self.network(images)
            wrong += (logits.argmax(1) != labels).sum()
        return 100.0 * int(wrong) / len(self.test)

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def to_dict(self):
        """The state as tensors and plain values, for a checkpoint."""
        cuda = self.device.type == "cuda"
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "sgd": self.sgd.torch.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None},
            "curve": self.curve,
            "sums": (self.loss_sum, self.wrong_sum, self.summed),
            "seconds": (self.seconds, self.device_seconds),
        }

    def load_dict(self, saved):
        """Go on from what `to_dict` gave."""
        self.iteration = saved["iteration"]
        self.network.load_state_dict(saved["network"])
        self.sgd.torch.load_state_dict(saved["sgd"])
        torch.set_rng_state(saved["random"]["cpu"].cpu())
        if saved["random"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["random"]["cuda"].cpu())
        self.curve = saved["curve"]
        loss_sum, wrong_sum, self.summed = saved["sums"]
        self.loss_sum.copy_(loss_sum)
        self.wrong_sum.copy_(wrong_sum)
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
