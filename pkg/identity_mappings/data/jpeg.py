"""A picture's file to the pixels that a network sees: decoded no larger than needed, cut out, resized, as uint8.

simplejpeg decodes straight to an array; where it is not installed, and for what is no common JPEG (ImageNet holds a PNG
and some CMYK files under the name of JPEG), Pillow does. Both give the same pixels of the same file. Where
$IDENTITY_MAPPINGS_DECODE says "gpu", torchvision decodes training pictures on the GPU that trains (`cuts`).
"""

import io
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

import numpy as np
import PIL
import torch
from PIL import Image

from ..errors import UsageError, choose, first_line

DECODE = "IDENTITY_MAPPINGS_DECODE"  # the environment's variable for where training pictures are decoded
COMMON = ("YCbCr", "Gray", "RGB")  # the colour spaces in which simplejpeg and Pillow agree
ON_GPU = COMMON[:2]  # and those in which nvJPEG is told nothing that it could pass over


class Damaged(ValueError):
    """A file that is no picture, or not a whole one; the message is a line with its path and why."""

    def __init__(self, path, error):
        # what Pillow says of a file of no format that it knows has an address in memory, another in each process
        reason = "no picture" if isinstance(error, PIL.UnidentifiedImageError) else first_line(error)
        super().__init__(f"{path} must be a picture; it cannot be read ({reason})")


class Picture:
    """The file of a picture, of which the size is known and nothing else is decoded yet.

    height, width: in pixels. space: the colour space of a JPEG that simplejpeg may decode; None for all others. Raises
    Damaged where the file cannot be read.
    """

    def __init__(self, path):
        self.path, self.space = path, None
        try:
            with open(path, "rb") as file:
                self.content = file.read()
            self.common = self._common()
            self.height, self.width = self.common or self._opened().size[::-1]
        except Exception as error:  # a damaged file may fail anywhere in there, and Pillow promises no list of errors
            raise Damaged(path, error) from error

    def whole(self, size):
        """All of it, resized to `size`, (height, width), as torchvision's Resize does: uint8 (h, w, 3)."""
        return np.asarray(self._decoded(1.0).resize(size[::-1], Image.Resampling.BILINEAR))

    def cut(self, box, size):
        """The part `box`, (left, top, right, bottom) in pixels, resized to `size`, (height, width): uint8 (h, w, 3).

        But for rounding the same pixels as when the whole picture is resized and then cut; and where the cut shrinks to
        less than half, a JPEG is decoded at a half, a quarter or an eighth, which is faster and moves values a little.
        """
        picture = self._decoded(min((box[3] - box[1]) / size[0], (box[2] - box[0]) / size[1]))
        across, down = picture.width / self.width, picture.height / self.height
        left, top, right, bottom = (value * by for value, by in zip(box, (across, down) * 2, strict=True))
        inside = max(left, 0.0), max(top, 0.0), min(right, picture.width), min(bottom, picture.height)
        return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box=inside))

    def _common(self):
        """(height, width) of a JPEG that simplejpeg may decode; None for any other."""
        if decoder() is None or not self.content.startswith(b"\xff\xd8"):
            return None
        try:
            height, width, space, _ = decoder().decode_jpeg_header(self.content)
        except ValueError:
            return None
        if space not in COMMON:
            return None
        self.space = space
        return height, width

    def _opened(self):
        return Image.open(io.BytesIO(self.content))

    def _decoded(self, shrink):
        """A Pillow picture, in RGB, not smaller than 1 / `shrink` of the file's. Raises Damaged."""
        try:
            return self._rgb(shrink)
        except Exception as error:
            raise Damaged(self.path, error) from error

    def _rgb(self, shrink):
        least = [int(np.ceil(side / shrink)) for side in (self.height, self.width)] if shrink >= 2 else [0, 0]
        if self.common:
            # a factor of 2 or more: the factors between would be slower than decoding the whole
            options = {"min_height": least[0], "min_width": least[1], "min_factor": 2.0}
            try:
                return Image.fromarray(decoder().decode_jpeg(self.content, **options))
            except ValueError:
                pass  # Pillow passes over some faults that do not cost a pixel; what it refuses is damaged
        picture = self._opened()
        if least != [0, 0]:
            picture.draft("RGB", (least[1], least[0]))
        return picture.convert("RGB")


@lru_cache
def decoder():
    """The module simplejpeg, or None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def name(on_gpu=False):
    """What decodes most pictures, with its version."""
    if on_gpu:
        return f"torchvision {metadata.version('torchvision')} on the GPU"
    if decoder() is None:
        return f"Pillow {PIL.__version__}"
    return f"simplejpeg {metadata.version('simplejpeg')}"


def on_gpu(device):
    """Whether the device that trains is to decode training pictures; $IDENTITY_MAPPINGS_DECODE says it, "cpu" or "gpu".

    Raises UsageError where it cannot.
    """
    if choose(os.environ.get(DECODE) or "cpu", ("cpu", "gpu"), f"${DECODE}") == "cpu":
        return False
    if torch.device(device).type != "cuda":
        raise UsageError(f"${DECODE} is gpu, and this trains on the CPU: unset it, or train with --device cuda")
    if decoder() is None:  # it tells a JPEG's colour space
        raise UsageError(f"${DECODE}=gpu needs simplejpeg beside torchvision: install simplejpeg, or unset it")
    return True


@dataclass(frozen=True)
class Undecoded:
    """A cut that is still to be made: a JPEG's bytes, the box as in `Picture.cut`, and whether to mirror it."""

    content: bytes
    box: tuple
    mirrored: bool


def cuts(undecoded, size, device):
    """Those cuts, resized to `size`, (height, width), made on a device by torchvision: uint8 (n, h, w, 3).

    nvJPEG, its decoder on a GPU, rounds otherwise than the processor's, and decodes each picture whole. Raises
    RuntimeError where a file cannot be decoded.
    """
    from torchvision import io as torchvisions  # its import takes as long as torch's

    if device.type == "cuda":
        # it may write where kernels that are still queued read (pytorch/vision PR 9606)
        torch.cuda.current_stream(device).synchronize()
    contents = [torch.frombuffer(bytearray(each.content), dtype=torch.uint8) for each in undecoded]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision 0.29 means to leave decoding to TorchCodec
        wholes = torchvisions.decode_jpeg(contents, torchvisions.ImageReadMode.RGB, device=device)
    pairs = zip(wholes, undecoded, strict=True)
    return torch.stack([_resized(whole, each.box, size, each.mirrored) for whole, each in pairs])


def _resized(whole, box, size, mirrored):
    """The part `box` of uint8 (3, h, w) as Pillow's resize(box=) makes it: uint8 (h, w, 3)."""
    left, top, right, bottom = box
    down = _weights(top, bottom, whole.shape[1], size[0], whole.device)
    across = _weights(left, right, whole.shape[2], size[1], whole.device)
    made = (down @ whole.float() @ across.T).round().to(torch.uint8).permute(1, 2, 0)
    return made.flip(1) if mirrored else made


def _weights(start, stop, length, size, device):
    """(size, length): each pixel's share in each of `size` from `start` to `stop`, by a triangle over what shrinks."""
    step = (stop - start) / size
    centres = start + (torch.arange(size, device=device) + 0.5) * step
    pixels = torch.arange(length, device=device) + 0.5
    shares = (1 - (pixels - centres[:, None]).abs() / max(step, 1.0)).clamp(min=0)
    return shares / shares.sum(1, keepdim=True)
