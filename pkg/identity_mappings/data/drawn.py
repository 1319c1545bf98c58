"""A folder of JPEGs in ImageNet's layout that the library draws itself, for the smoke tier: nothing is downloaded.

Ten classes, each a shape or a texture with a leaning towards a hue of its own, on grounds that vary, in pictures whose
sizes and aspect ratios vary. No class changes when it is mirrored.
"""

import shutil

import filelock
import numpy as np
from PIL import Image

from .dataset import data_dir

CLASSES = ("checks", "columns", "cross", "disc", "dots", "frame", "ring", "rows", "square", "triangle")
PICTURES = {"train": 64, "val": 15}  # of each class
SIDES = (72, 160)  # pixels, the shorter and the longer side's bounds
VERSION = 1  # part of the folder's name: pictures that are drawn otherwise are another folder


def folder():
    """The folder of the drawn pictures, drawn first if it is not there."""
    target = data_dir() / f"drawn-{VERSION}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_suffix(".lock")):
            if not target.exists():
                _draw_all(target)
    return target


def _draw_all(target):
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed while it drew
    for part, (split, count) in enumerate(PICTURES.items()):
        for number, name in enumerate(CLASSES):
            place = partial / split / name
            place.mkdir(parents=True)
            for k in range(count):
                random = np.random.RandomState([part, number, k])  # the legacy streams are the same in every NumPy
                draw(number, random).save(place / f"{name}_{k}.JPEG", quality=90)
    partial.rename(target)


def draw(number, random, sides=SIDES):
    """A picture (PIL) of class `number`, its sides drawn between `sides`; a square of its middle holds what matters."""
    height, width = random.randint(sides[0], sides[1] + 1, 2)
    inside = _shape(CLASSES[number], *_coordinates(height, width, random), random)
    ground, colour = _hue(random.random_sample(), 0.35), _hue(number / len(CLASSES) + random.normal(0, 0.03), 0.9)
    texture = Image.fromarray(random.randint(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    picture = np.where(inside[..., None], colour, ground) + 0.3 * (np.asarray(texture, float) / 255 - 0.5)
    picture += random.normal(0, 0.03, picture.shape)
    return Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))


def _coordinates(height, width, random):
    """(down, right) of each pixel, (h, w) each, in half the shorter side's units, from a centre off the middle."""
    half = min(height, width) / 2
    down, right = np.mgrid[:height, :width].astype(float)
    centre = random.uniform(-0.15, 0.15, 2)
    return (down - height / 2) / half - centre[0], (right - width / 2) / half - centre[1]


def _shape(name, down, right, random):
    """Which pixels the shape or the texture of that class covers, (h, w) bool."""
    size, period = random.uniform(0.5, 0.85), random.uniform(0.3, 0.5)
    distance, farther = np.hypot(down, right), np.maximum(abs(down), abs(right))
    rows, columns = np.sin(2 * np.pi * down / period), np.sin(2 * np.pi * right / period)
    return {
        "checks": rows * columns > 0,
        "columns": columns > 0,
        "cross": (np.minimum(abs(down), abs(right)) < size / 4) & (farther < size),
        "disc": distance < size,
        "dots": rows + columns > 1,
        "frame": (farther < size) & (farther > 0.65 * size),
        "ring": (distance < size) & (distance > 0.65 * size),
        "rows": rows > 0,
        "square": farther < size,
        "triangle": (abs(right) < (down + size) / 2) & (down < size),
    }[name]


def _hue(hue, saturation):
    """RGB (3,) from 0 to 1 of a hue, given in turns, at full brightness."""
    thirds = np.array([0, 1 / 3, 2 / 3])
    return 1 - saturation + saturation * (0.5 + 0.5 * np.cos(2 * np.pi * (hue - thirds)))
