"""Training batches from a data set that lies on the device: one gather that crops, flips, normalises and pads.

There is no loader and no per-image Python. What a run sees is a function of its seed and the iteration alone, so
that a resumed run, or one trained beside others, sees what it would have seen.
"""

import numpy as np
import torch


class Images:
    """Images on a device with their normalisation: (x - mean) / std, NHWC uint8 in, NCHW float32 channels_last out.

    `normalisation` is "pixel" (the mean image of the training set is subtracted, as in the first ResNet paper) or
    "channel" (one mean a channel, as in the authors' Torch code). Both divide by each channel's standard deviation;
    the stem's BN makes the network blind to that scale.
    """

    def __init__(self, images, labels, mean, std, device):
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels).to(device)
        self.mean, self.std = mean.to(device), std.to(device)

    @classmethod
    def pair(cls, dataset, normalisation, device):
        """The training and the test images, both normalised by the training images' statistics."""
        x = torch.from_numpy(dataset.x_train).double()
        channel = x.mean((0, 1, 2))
        std = (x - channel).pow(2).mean((0, 1, 2)).sqrt()
        mean = x.mean(0) if normalisation == "pixel" else channel.expand(x.shape[1:])
        mean, std = mean.float(), std.float()
        return (
            cls(dataset.x_train, dataset.y_train, mean, std, device),
            cls(dataset.x_test, dataset.y_test, mean, std, device),
        )

    def __len__(self):
        return len(self.labels)

    def batches(self, protocol, seed):
        """The training batches of a run; see `Batches`."""
        return Batches(self, protocol, seed)

    @property
    def size(self):
        """(height, width) in pixels."""
        return tuple(self.images.shape[1:3])

    def plain(self, start, stop):
        """Images start to stop as they are, normalised: (n, c, h, w), and their labels (n,)."""
        x = (self.images[start:stop].float() - self.mean) / self.std
        return x.permute(0, 3, 1, 2), self.labels[start:stop]

    def augmented(self, index, down, right, flip, pad, pad_value):
        """Images at `index`, each padded by `pad`, cropped at (down, right) of the padded image, and flipped if told.

        All arguments but the last two are (n,) tensors on the device. `pad_value` "mean" pads the normalised image
        with zeros; "black" pads the raw image with zeros before it is normalised.
        """
        height, width = self.images.shape[1:3]
        rows = torch.arange(height, device=index.device) + down[:, None] - pad  # (n, h), of the unpadded image
        across = torch.arange(width, device=index.device).expand(len(index), width)
        columns = torch.where(flip[:, None], width - 1 - across, across) + right[:, None] - pad  # (n, w)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        rows, columns = rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        raw = self.images[index[:, None, None], rows, columns].float()  # (n, h, w, c)
        if pad_value == "mean":
            x = (raw - self.mean[rows, columns]) / self.std * inside[..., None]
        else:  # the mean image comes off the crop, black margin and all
            x = (raw * inside[..., None] - self.mean) / self.std
        return x.permute(0, 3, 1, 2), self.labels[index]


class Batches:
    """The batches of one run: an endless stream of the training images, permuted anew each epoch, cut every `batch`.

    A batch may span two epochs, so that each has exactly `batch` images and 64k iterations are what they say.
    Each epoch's tables (order, crop, flip) come from a generator seeded by (seed, epoch). Those that the batch under
    way may touch lie on the device in a ring, so that the batch of an iteration is a gather by a counter there.
    """

    def __init__(self, images, protocol, seed):
        self.images, self.protocol, self.seed = images, protocol, seed
        n, device = len(images), images.labels.device
        # as many as a batch can touch, and one that is brought ahead, by place in the ring
        self._epochs = [None] * ((protocol.batch - 1) // n + 3)
        self._ring = torch.zeros(4, len(self._epochs) * n, dtype=torch.int64, device=device)
        self._within = torch.arange(protocol.batch, device=device)

    def tables(self, epoch):
        """(4, n) int64: the image, the crop's row and column in [0, 2 pad], and the flip of each draw of an epoch."""
        n, span = len(self.images), 2 * self.protocol.pad + 1
        random = np.random.RandomState([self.seed, epoch])  # the legacy streams are the same in every NumPy
        order, down, right = random.permutation(n), random.randint(0, span, n), random.randint(0, span, n)
        flip = random.randint(0, 2, n) if self.protocol.flip else np.zeros(n, dtype=np.int64)
        return torch.from_numpy(np.stack([order, down, right, flip]).astype(np.int64))

    def bring(self, iteration):
        """Have the tables of that iteration, counted from 0, in the ring: the host's part, a copy once an epoch.

        An epoch's tables are brought half an epoch ahead, while a CUDA device has work, and copied without a wait.
        """
        n, first = len(self.images), iteration * self.protocol.batch
        last = first + self.protocol.batch - 1
        for epoch in range(first // n, (last + n // 2) // n + 1):
            place = epoch % len(self._epochs)
            if self._epochs[place] != epoch:
                tables = self.tables(epoch)
                if self._ring.is_cuda:
                    tables = tables.pin_memory()
                self._ring[:, place * n : (place + 1) * n].copy_(tables, non_blocking=True)
                self._epochs[place] = epoch

    def draws(self, counter):
        """(4, batch): the table columns that make up the batch of that iteration.

        counter: (1,) int64 on the device, an iteration whose tables `bring` has brought. Nothing here waits for it.
        """
        columns = (counter * self.protocol.batch + self._within) % self._ring.shape[1]
        return self._ring.index_select(1, columns)

    def at(self, counter):
        """Normalised, augmented images (batch, c, h, w) float32, channels_last, and labels (batch,); see `draws`."""
        index, down, right, flip = self.draws(counter)
        return self.images.augmented(index, down, right, flip.bool(), self.protocol.pad, self.protocol.pad_value)
