"""A picture's file to the pixels that a network sees: decoded no larger than needed, cut out, resized, as uint8.

simplejpeg decodes straight to an array; where it is not installed, and for what is no common JPEG (ImageNet holds a PNG
and some CMYK files under the name of JPEG), Pillow does. Both give the same pixels of the same file.
"""

import io
from functools import lru_cache
from importlib import metadata

import numpy as np
import PIL
from PIL import Image

from ..errors import first_line

COMMON = ("YCbCr", "Gray", "RGB")  # the colour spaces in which simplejpeg and Pillow agree


class Damaged(ValueError):
    """A file that is no picture, or not a whole one; the message is a line with its path and why."""

    def __init__(self, path, error):
        # what Pillow says of a file of no format that it knows has an address in memory, another in each process
        reason = "no picture" if isinstance(error, PIL.UnidentifiedImageError) else first_line(error)
        super().__init__(f"{path} must be a picture; it cannot be read ({reason})")


class Picture:
    """The file of a picture, of which the size is known and nothing else is decoded yet.

    height, width: in pixels. Raises Damaged where the file cannot be read.
    """

    def __init__(self, path):
        self.path = path
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
        return (height, width) if space in COMMON else None

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


def name():
    """What decodes most pictures, with its version."""
    if decoder() is None:
        return f"Pillow {PIL.__version__}"
    return f"simplejpeg {metadata.version('simplejpeg')}"
