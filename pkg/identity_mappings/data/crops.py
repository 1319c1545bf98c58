"""Where a picture is cut and how it is coloured: section 5's two augmentations, and the single crop of the test.

Draws come from a stream of their own for each (seed, epoch, position), whichever process loads the picture. Boxes are
(left, top, right, bottom) in pixels of the picture as it lies on disk; colours are changed on the device, in batches.
"""

import math

import numpy as np
import torch

ATTEMPTS = 10  # at a rectangle that fits into the picture; fb.resnet.torch's number
GREY = (0.299, 0.587, 0.114)  # the weights of red, green and blue in what the eye takes for brightness

# The principal components of RGB over ImageNet's training images and the square roots of their variances, for values
# from 0 to 1: AlexNet's colour augmentation, as computed for fb.resnet.torch
COMPONENTS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
DEVIATIONS = (0.2175, 0.0188, 0.0045)


def drawn_for(seed, epoch, position):
    """The random stream of one draw of a run: that picture's crop, flip and colour."""
    return np.random.RandomState([seed, epoch, position])  # the legacy streams are the same in every NumPy


def training_box(height, width, protocol, random):
    """The box of a training crop: of the protocol's augmentation, "scale" or "scale and aspect ratio"."""
    if protocol.augmentation == "scale":
        side = random.randint(protocol.shorter[0], protocol.shorter[1] + 1)
        return _of_resized(height, width, side, protocol.crop, random)
    return _of_any_shape(height, width, protocol, random)


def resized(height, width, side):
    """(height, width) of a picture whose shorter side is resized to `side`."""
    shorter = min(height, width)
    return tuple(side if length == shorter else int(side * length / shorter) for length in (height, width))


def central(pixels, crop):
    """The `crop` x `crop` pixels in the middle of (h, w, 3)."""
    top, left = (int(round((length - crop) / 2.0)) for length in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop]


def _of_resized(height, width, side, crop, random):
    """The box of a crop anywhere in a picture whose shorter side is resized to `side`."""
    size = resized(height, width, side)
    top, left = (random.randint(0, length - crop + 1) for length in size)
    down, across = height / size[0], width / size[1]
    return left * across, top * down, (left + crop) * across, (top + crop) * down


def _of_any_shape(height, width, protocol, random):
    """GoogLeNet's: a rectangle of random area and aspect ratio; a square in the middle where none of ten fits."""
    for _ in range(ATTEMPTS):
        area = random.uniform(*protocol.area) * height * width
        ratio = random.uniform(*protocol.aspect)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if random.random_sample() < 0.5:
            w, h = h, w
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w + 1), random.randint(0, height - h + 1)
            return left, top, left + w, top + h
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def drawn_colour(protocol, random):
    """(9,) float32: how far along each principal component, the three factors of the jitter, and their order."""
    lighting = random.normal(0, protocol.lighting, 3) if protocol.lighting else np.zeros(3)
    factors = 1 + random.uniform(-protocol.jitter, protocol.jitter, 3) if protocol.jitter else np.ones(3)
    order = random.permutation(3) if protocol.jitter else np.arange(3)
    return np.concatenate([lighting, factors, order]).astype(np.float32)


def coloured(x, colour, protocol):
    """Images (n, 3, h, w) from 0 to 1 with the jitter and the lighting of their `colour`, (n, 9).

    Brightness scales an image, contrast stretches it about its mean grey, saturation pulls each pixel from its own
    grey; in an order of its own for each image, as in fb.resnet.torch.
    """
    lighting, factors, order = colour.split(3, dim=1)
    if protocol.jitter:
        for turn in range(3):
            kind = order[:, turn, None, None, None]
            factor = factors.gather(1, order[:, turn, None].long())[:, :, None, None]
            grey = _grey(x)
            about = torch.where(kind == 0, 0.0, torch.where(kind == 1, grey.mean((2, 3), keepdim=True), grey))
            x = about + factor * (x - about)
    if not protocol.lighting:
        return x
    components, deviations = (torch.tensor(each, device=x.device) for each in (COMPONENTS, DEVIATIONS))
    return x + (lighting * deviations @ components.T)[:, :, None, None]


def _grey(x):
    red, green, blue = GREY
    return red * x[:, 0:1] + green * x[:, 1:2] + blue * x[:, 2:3]
