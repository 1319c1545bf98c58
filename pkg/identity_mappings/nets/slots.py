"""Many tensors in one flat buffer, each at an address that compiled kernels may read in vectors."""

import torch

ALIGNED = 8  # elements: 16 bytes of the smallest type that a buffer has, 2 bytes


class Slots:
    """The places of tensors of these sizes, one after the other, in flat buffers of `len(slots)` elements.

    Each begins at a multiple of 16 bytes from the buffer's start, which torch's allocators align by more: Inductor's
    kernels load 16 bytes at a time, and take for granted of every other tensor of a shape what they found of the
    first. What lies between two slots is zero, and stays so under operations that keep zero.
    """

    def __init__(self, sizes):
        self.sizes = list(sizes)
        self.padded = [size + padding(size) for size in self.sizes]

    def __len__(self):
        return sum(self.padded)

    def split(self, buffer):
        """The slots of a buffer, as views of their sizes."""
        return [part[:size] for part, size in zip(buffer.split(self.padded), self.sizes, strict=True)]

    def packed(self, buffer):
        """The values of all slots one after the other, without what lies between: (sum of sizes,)."""
        return torch.cat(self.split(buffer))

    def fill(self, buffer, values):
        """The inverse of `packed`: the values into the slots of a buffer."""
        for slot, part in zip(self.split(buffer), values.split(self.sizes), strict=True):
            slot.copy_(part)


def padding(size):
    """The elements between a tensor of that size and the next slot."""
    return -size % ALIGNED


def joined(parts):
    """A new buffer with these flat tensors of one type in its slots."""
    gaps = [(part, padding(len(part))) for part in parts]
    return torch.cat([piece for part, gap in gaps for piece in ((part, part.new_zeros(gap)) if gap else (part,))])
