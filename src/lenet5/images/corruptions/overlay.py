"""Draw lines, spots or a square over the image."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lenet5.images.corruptions import linear
from lenet5.images.corruptions.linear import Images, Shape

_LINES = ((1, 0.4), (1, 0.7), (1, 1.0), (2, 1.0), (3, 1.0))
"""Number and brightness of the lines by severity."""
_REACH = 2.3
"""A line is black from this distance, in pixels."""


def dotted_line(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Draw dotted lines from the left to the right edge."""
    return _add_lines(images, severity, rng, _dotted_lines(images.shape[1:]))


def zigzag(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Draw zigzag lines from left to right, nearly level."""
    return _add_lines(images, severity, rng, _zigzags(images.shape[1:]))


def spatter(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Cover random spots with dark grey."""
    # spots are where blurred noise exceeds this many of its standard deviations
    limit = (0.8, 0.4, 0.0, -0.25, -0.5)[severity - 1]
    shape = images.shape[1:]
    noise = rng.integers(0, 256, images.shape, dtype=np.uint8)
    blur = linear.gaussian(1.0, shape)
    # the deviation of a byte, times that of a weighted sum of independent ones
    centre = shape[0] // 2 * shape[1] + shape[1] // 2
    weights = blur[[centre]].data / linear.ONE
    deviation = 255 / math.sqrt(12) * math.sqrt(math.fsum(weights**2))
    spots = np.where(linear.apply(blur, noise) > 127.5 + limit * deviation, np.uint8(255), np.uint8(0))
    cover = linear.apply(linear.gaussian(1.5, shape), spots).astype(np.uint16)
    cover[cover < 0.8 * 255] = 0
    return ((images * (255 - cover).astype(np.uint32) + 63 * cover + 127) // 255).astype(np.uint8)


def occlusion(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Cover a square at a random place with black."""
    _, height, width = images.shape
    side = max(1, min(height, width) * (3, 6, 9, 12, 15)[severity - 1] // 28)
    top = rng.integers(0, height - side + 1, (len(images), 1, 1))
    left = rng.integers(0, width - side + 1, (len(images), 1, 1))
    row, column = np.arange(height)[:, np.newaxis], np.arange(width)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return np.where(inside, np.uint8(0), images)


def _add_lines(
    images: Images, severity: int, rng: np.random.Generator, patterns: NDArray[np.uint8]
) -> Images:
    """Add random patterns, uint8 (P, H, W), to each image."""
    count, brightness = _LINES[severity - 1]
    weight = round(brightness * 256)
    sums = images.astype(np.uint16)
    for chosen in rng.integers(0, len(patterns), (count, len(images))):
        sums += (patterns[chosen] * np.uint16(weight)) >> 8
    return np.minimum(sums, 255).astype(np.uint8)


@cache
def _dotted_lines(shape: Shape) -> NDArray[np.uint8]:
    """Return every dotted line between a row at the left edge and one at the right: uint8 (P, H, W)."""
    height, width = shape
    dots = np.arange(width) // 2 % 2 == 1
    return np.stack(
        [
            _rounded(_line(0, first, width - 1, last, shape) * dots)
            for first in range(height - 1)
            for last in range(height - 1)
        ]
    )


@cache
def _zigzags(shape: Shape) -> NDArray[np.uint8]:
    """Return the zigzags from each row, with each of ten slopes, in small images fewer: uint8 (P, H, W)."""
    steepest = min(5, max(1, (shape[1] - 5) // 2))  # a tooth of a steeper one would be upright
    rises = range(-steepest, steepest)
    return np.stack([_zigzag(row, rise, shape) for row in range(shape[0] - 1) for rise in rises])


def _zigzag(row: int, rise: int, shape: Shape) -> NDArray[np.uint8]:
    left, right, size = 2, shape[1] - 3, 2  # first and last column; half the width and the height of a tooth
    angle = math.atan2(rise, right - left)
    length = (right - left) / math.cos(angle)
    teeth = int((length - size) // (2 * size)) + 1
    points = [(0.0, 0.0), *(((2 * i + 1) * size, size * (-1.0) ** i) for i in range(teeth))]
    if length > points[-1][0]:
        points.append((length, 0.0))
    turned = [
        (
            left + along * math.cos(angle) - aside * math.sin(angle),
            row + along * math.sin(angle) + aside * math.cos(angle),
        )
        for along, aside in points
    ]
    drawn = np.zeros(shape)
    for start, end in pairwise(turned):
        drawn = np.minimum(drawn + _line(*start, *end, shape), 1)
    return _rounded(drawn)


def _line(left: float, first: float, right: float, last: float, shape: Shape) -> NDArray[np.float64]:
    """Return a line between two points, 0 to 1, float64 (H, W); it fades with the vertical distance."""
    rows, columns = np.indices(shape)
    slope = (last - first) / (right - left)
    distance = np.abs(rows - (slope * (columns - left) + first))
    line = np.clip(np.log(1 - np.minimum(distance, _REACH - 1e-9) / _REACH) + 1, 0, 1)
    line[:, : math.floor(left)] = 0
    line[:, math.ceil(right) :] = 0
    return line


def _rounded(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(image * 255).astype(np.uint8)
