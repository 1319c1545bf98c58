"""Batches from pictures in files: loader processes decode and cut, the device normalises; uint8 travels between.

What a run sees is a function of its seed and the iteration alone, however many processes share the batch, so that a
resumed run sees what it would have seen.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..errors import UsageError
from .crops import central, coloured, drawn_colour, drawn_for, resized, training_box
from .jpeg import ON_GPU, Damaged, Picture, Undecoded, cuts

AHEAD = 4  # batches that each loader process keeps ready


@dataclass(frozen=True)
class Share:
    """A process's part of each batch: `rank` of `size` processes, in parts of `part` images one after another.

    The images of a batch are dealt out in order: the first process has the first of them, and each part follows the
    one before, so that groups of consecutive images, BN's, are the same whatever the share.
    """

    part: int
    rank: int = 0
    size: int = 1

    def parts(self, batch):
        """(start, stop) of each part in a batch of that size."""
        mine = batch // self.size
        return [(start, start + self.part) for start in range(self.rank * mine, (self.rank + 1) * mine, self.part)]


class Pictures:
    """Pictures in files, and how they become a network's input.

    files: `imagenet.Files`. protocol: has `crop`, `mean` and `std`, and for training the augmentation. workers: loader
    processes; 0 loads in this one. device: where batches are wanted. share: this process's of a training batch; None:
    all of it. on_device: whether the device decodes training pictures (`jpeg.cuts`).
    """

    def __init__(self, files, protocol, device="cpu", workers=0, share=None, on_device=False):
        self.files, self.protocol, self.device, self.workers = files, protocol, torch.device(device), workers
        self.share, self.on_device = share or Share(protocol.batch), on_device

    def __len__(self):
        return len(self.files)

    @property
    def size(self):
        """(height, width) in pixels of a training crop."""
        return self.protocol.crop, self.protocol.crop

    def shared(self, share):
        """The same pictures, of which a process takes another share."""
        return Pictures(self.files, self.protocol, self.device, self.workers, share, self.on_device)

    def batches(self, protocol, seed):
        """The training batches of a run; see `PictureBatches`."""
        return PictureBatches(self, protocol, seed, self.share)

    def test(self, side, crop, batch, rank=0, size=1):
        """Batches of every `size`-th picture from `rank` on: its shorter side resized to `side`, its middle cut out.

        Yields (images (n, 3, crop, crop) float32 normalised, labels (n,)). Together the processes see each picture
        once. Raises UsageError for a picture that cannot be read: an evaluation leaves none out.
        """
        mine = list(range(rank, len(self), size))
        chunks = [mine[start : start + batch] for start in range(0, len(mine), batch)]
        for pixels, labels, bad in self.loader(_Shown(self.files, side, crop), chunks):
            if bad:
                raise UsageError(f"{bad[0]}: replace it")
            yield self.normalised(_values(pixels)), labels

    def loader(self, pictures, chunks):
        """The batches of `pictures` by lists of keys, loaded ahead by the loader processes, brought to the device."""
        loaded = DataLoader(
            pictures,
            batch_sampler=chunks,
            num_workers=self.workers,
            prefetch_factor=AHEAD if self.workers else None,
            collate_fn=_together,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it takes a number from the stream that dropout draws from
        )
        for *parts, bad in loaded:
            yield *(self.brought(part) for part in parts), bad

    def brought(self, part):
        """A tensor, on the device; what is still to be decoded stays as it is."""
        return part.to(self.device, non_blocking=True) if isinstance(part, torch.Tensor) else part

    def normalised(self, x):
        """(x - mean) / std of images (n, 3, h, w) from 0 to 1."""
        mean, std = (torch.tensor(e, device=x.device)[:, None, None] for e in (self.protocol.mean, self.protocol.std))
        return (x - mean) / std


class PictureBatches:
    """The batches of one run: an endless stream of the pictures, permuted anew each epoch, cut every `batch`.

    A batch may span two epochs, as those of `batches.Batches`. A picture that cannot be read is left out: the next that
    can stands in for it; `damaged` has the messages of all that this process met.
    """

    def __init__(self, images, protocol, seed, share):
        self.images, self.protocol, self.seed, self.share = images, protocol, seed, share
        self.damaged = set()
        self._stream, self._next = iter(()), None

    def bring(self, iteration):
        """Have the batch of that iteration, counted from 0, come next: starts the loaders unless it does anyway."""
        if self._next != iteration:
            kind = _Undecoded if self.images.on_device else _Augmented
            pictures = kind(self.images.files, self.protocol, self.seed)
            self._stream, self._next = self.images.loader(pictures, _Keys(self, iteration)), iteration

    def parts(self):
        """This process's parts of the next batch: (images (n, 3, h, w) normalised and augmented, labels (n,)) each."""
        for keys in self.keys(self._next):
            pixels, labels, colour, bad = next(self._stream)
            if self.images.on_device:
                pixels, labels, colour, bad = self._decoded(pixels, labels, colour, bad, keys)
            self.damaged.update(bad)
            yield self.images.normalised(coloured(_values(pixels), colour, self.protocol)), labels
        self._next += 1

    def _decoded(self, taken, labels, colour, bad, keys):
        """A part with its pixels, decoded on the device; where it cannot, by the processor, which knows the damaged."""
        undecoded = [each for each in taken if isinstance(each, Undecoded)]
        if not undecoded:
            return taken, labels, colour, bad
        try:
            made = iter(cuts(undecoded, self.images.size, self.images.device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            *tensors, bad = _together([self.load(*key) for key in keys])
            return *(self.images.brought(tensor) for tensor in tensors), bad
        pixels = [next(made) if isinstance(each, Undecoded) else torch.tensor(each) for each in taken]
        return torch.stack([self.images.brought(each) for each in pixels]), labels, colour, bad

    def load(self, index, epoch=0, position=0):
        """What a loader process does for one draw: pixels (crop, crop, 3) uint8, label, colour, damage."""
        return _Augmented(self.images.files, self.protocol, self.seed)[index, epoch, position]

    def keys(self, iteration):
        """For each part of that iteration's batch a list of (picture, epoch, position in the epoch)."""
        n, first = len(self.images), iteration * self.protocol.batch
        for start, stop in self.share.parts(self.protocol.batch):
            places = [divmod(place, n) for place in range(first + start, first + stop)]
            yield [(int(order(n, self.seed, epoch)[position]), epoch, position) for epoch, position in places]


@lru_cache(maxsize=2)
def order(n, seed, epoch):
    """(n,): the order in which a run sees the pictures in an epoch."""
    return np.random.RandomState([seed, epoch]).permutation(n)


class _Keys:
    """What the loader is to load from an iteration on, part by part, without end."""

    def __init__(self, batches, iteration):
        self.batches, self.iteration = batches, iteration

    def __iter__(self):
        iteration = self.iteration
        while True:
            yield from self.batches.keys(iteration)
            iteration += 1


class _Augmented(TorchDataset):
    def __init__(self, files, protocol, seed):
        self.files, self.protocol, self.seed = files, protocol, seed

    def __getitem__(self, key):
        index, epoch, position = key
        random, bad = drawn_for(self.seed, epoch, position), []
        while True:
            try:
                pixels = self._cut(index, random)
                break
            except Damaged as error:
                bad.append(str(error))
                index = (index + 1) % len(self.files)
                if len(bad) == len(self.files):
                    raise UsageError(f"none of the {len(bad)} pictures under {self.files.root} can be read") from error
        return pixels, self.files.labels[index], drawn_colour(self.protocol, random), bad

    def _cut(self, index, random):
        picture = Picture(self.files.path(index))
        box = training_box(picture.height, picture.width, self.protocol, random)
        flip = self.protocol.flip and random.random_sample() < 0.5
        return self._made(picture, box, flip)

    def _made(self, picture, box, mirrored):
        pixels = picture.cut(box, (self.protocol.crop, self.protocol.crop))
        return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels


class _Undecoded(_Augmented):
    """The same draws, of which the device is to make the pixels, where it can."""

    def _made(self, picture, box, mirrored):
        if picture.space in ON_GPU:
            return Undecoded(picture.content, box, mirrored)
        return super()._made(picture, box, mirrored)


class _Shown(TorchDataset):
    def __init__(self, files, side, crop):
        self.files, self.side, self.crop = files, side, crop

    def __getitem__(self, index):
        try:
            picture = Picture(self.files.path(index))
            size = resized(picture.height, picture.width, self.side)
            pixels, bad = central(picture.whole(size), self.crop), []
        except Damaged as error:
            pixels, bad = np.zeros((self.crop, self.crop, 3), np.uint8), [str(error)]
        return pixels, self.files.labels[index], bad


def _values(pixels):
    """(n, h, w, 3) uint8 as (n, 3, h, w) float32 from 0 to 1, in channels_last."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def _together(items):
    """The items of a batch as one tensor for each of their parts, and one list of what could not be read.

    Pictures of which some are still to be decoded stay a list.
    """
    *parts, bad = zip(*items, strict=True)
    return *map(_stacked, parts), [message for messages in bad for message in messages]


def _stacked(part):
    if any(isinstance(each, Undecoded) for each in part):
        return list(part)
    return torch.from_numpy(np.stack(part))
