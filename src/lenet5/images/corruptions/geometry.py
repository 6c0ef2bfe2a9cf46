"""Move the whole image: shear, scale, rotate, translate; new pixels at the edges are black."""

import math

import numpy as np

from lenet5.images.corruptions import linear
from lenet5.images.corruptions.linear import Images

Matrix = tuple[tuple[float, float], tuple[float, float]]
_IDENTITY: Matrix = ((1.0, 0.0), (0.0, 1.0))


def shear(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Slant to the left or to the right."""
    angle = (0.15, 0.28, 0.4, 0.55, 0.7)[severity - 1]  # radians
    return _either(
        images, rng, *(((math.cos(turn), 0.0), (-math.sin(turn), 1.0)) for turn in (angle, -angle))
    )


def scale(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Shrink the picture in its frame."""
    size = (0.9, 0.8, 0.7, 0.6, 0.5)[severity - 1]
    return _either(images, rng, ((1 / size, 0.0), (0.0, 1 / size)))


def rotate(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Rotate to the left or to the right."""
    angle = (0.15, 0.28, 0.4, 0.55, 0.7)[severity - 1]  # radians
    return _either(
        images,
        rng,
        *(((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))) for turn in (angle, -angle)),
    )


def translate(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Shift along both diagonals by a 28th of the image for each severity, in one of four directions."""
    _, height, width = images.shape
    chosen = rng.integers(0, 4, len(images))
    pixels = max(1, (severity * min(height, width) + 14) // 28)  # rounded
    shifts = [(-down, -right) for right in (-pixels, pixels) for down in (-pixels, pixels)]
    return linear.apply_chosen(
        [linear.warp(_IDENTITY, shift, (height, width)) for shift in shifts], chosen, images
    )


def _either(images: Images, rng: np.random.Generator, *inverses: Matrix) -> Images:
    """Apply one of the matrices to each image, at random."""
    _, height, width = images.shape
    chosen = rng.integers(0, len(inverses), len(images))
    return linear.apply_chosen(
        [linear.warp(inverse, (0.0, 0.0), (height, width)) for inverse in inverses], chosen, images
    )
