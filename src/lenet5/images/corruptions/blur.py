"""Blur images through glass or along a line."""

import math
from functools import cache

import numpy as np
from scipy import sparse

from lenet5.images.corruptions import linear
from lenet5.images.corruptions.linear import Images, Shape

_ANGLES = range(-45, 46, 3)
"""Degrees."""


def glass_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Blur, exchange neighbouring pixels at random, and blur again."""
    amounts = ((0.5, 1, 1), (0.6, 1, 2), (0.7, 1, 2), (0.8, 2, 1), (1.0, 2, 2))
    deviation, distance, rounds = amounts[severity - 1]
    count, height, width = images.shape
    blur = linear.gaussian(deviation, (height, width))
    pixels = np.ascontiguousarray(linear.apply(blur, images).reshape(count, height * width).T)  # (H*W, N)
    columns = np.arange(count)
    for _ in range(rounds):
        for row in range(height - distance, distance, -1):
            shape = (width - 2 * distance, count)
            down, right = rng.integers(-distance, distance, (2, *shape), dtype=np.int64)
            stays = rng.integers(0, 2, shape, dtype=np.uint8) == 0
            moves = np.where(stays, 0, down * width + right)
            for step, column in enumerate(range(width - distance, distance, -1)):
                here = row * width + column
                there = moves[step] + here
                before = pixels[here].copy()
                pixels[here] = pixels[there, columns]
                pixels[there, columns] = before
    return linear.apply(blur, np.ascontiguousarray(pixels.T).reshape(images.shape))


def motion_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Blur along a line of random direction, on one side, as the filter of ImageMagick does."""
    deviation = (1.0, 2.0, 3.0, 5.0, 8.0)[severity - 1]
    _, height, width = images.shape
    chosen = rng.integers(0, len(_ANGLES), len(images))
    return linear.apply_chosen(
        [_motion(angle, deviation, (height, width)) for angle in _ANGLES], chosen, images
    )


@cache
def _motion(angle: int, deviation: float, shape: Shape) -> sparse.csr_array:
    steps = range(min(math.ceil(3 * deviation), max(shape)) + 1)
    weights = np.array([math.exp(-(step**2) / (2 * deviation**2)) for step in steps])
    line = [
        (round(step * math.sin(math.radians(angle))), round(step * math.cos(math.radians(angle))))
        for step in steps
    ]
    return linear.stencil(line, weights / weights.sum(), shape)
