"""Find how far each image is from the nearest image of each class among others.

Images are reduced to ``SIDE`` × ``SIDE`` blocks with integer values from 0 to ``LEVELS``. So every squared
distance, and every partial sum on the way to it, is an integer below 2 ** 24, which float32 holds exactly. A
matrix product gives equal results on every processor, whatever the order of its sums and the number of
threads.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import Array, chunks

SIDE = 7
LEVELS = 63
MOST_OTHERS = 60_000
"""Largest number of images that each image is compared with: MNIST has as many training images. Of more
images, an evenly spaced sample is searched, so that time and memory do not grow with them."""
_ROWS = 512
"""Images whose distances are computed in one matrix product."""


def nearest_by_class(
    images: Array, others: Array, labels: NDArray[np.integer], classes: int
) -> NDArray[np.float32]:
    """Return the distance from each image to its nearest neighbour in each class.

    Args:
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB, whose blocks have a value for each channel.
        others: uint8 (M, H, W) or (M, H, W, 3), the images to search; a memory map of any size. At most
            ``MOST_OTHERS`` of them, evenly spaced, are searched.
        labels: (M,), the class of each of them, 0 to ``classes - 1``.
        classes: C.

    Returns:
        float32 (N, C): Euclidean distances between the reduced images, in levels. Infinite for a
        class without images.
    """
    sample = np.arange(len(others))
    if len(others) > MOST_OTHERS:
        sample = np.linspace(0, len(others) - 1, MOST_OTHERS).round().astype(np.int64)
    codes = np.asarray(labels)[sample]
    searched = _reduced(others, sample)
    squares = (searched**2).sum(axis=1, keepdims=True)
    # with one more feature, the product of an image and another one is |b|² - 2ab
    extended = np.concatenate([searched, squares], axis=1)
    by_class = [np.ascontiguousarray(extended[codes == code].T) for code in range(classes)]

    asked = _reduced(images, np.arange(len(images)))
    factors = np.concatenate([-2 * asked, np.ones((len(asked), 1), np.float32)], axis=1)
    nearest = np.full((len(asked), classes), np.inf, np.float32)
    for start in range(0, len(asked), _ROWS):
        rows = slice(start, start + _ROWS)
        for code, block in enumerate(by_class):
            if block.shape[1]:
                nearest[rows, code] = (factors[rows] @ block).min(axis=1)
    return np.sqrt(nearest + (asked**2).sum(axis=1, keepdims=True))


def _reduced(images: Array, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of each block of the chosen images, in whole levels.

    Returns:
        float32 (len(index), SIDE²), or (len(index), 3 SIDE²) for RGB.
    """
    _, height, width, *channels = images.shape
    reduced = np.empty((len(index), SIDE * SIDE * math.prod(channels)), np.float32)
    block_height, block_width = -(-height // SIDE), -(-width // SIDE)
    for rows in chunks(len(index)):
        chosen = index[rows]
        whole = np.zeros((len(chosen), SIDE * block_height, SIDE * block_width, *channels), np.uint8)
        whole[:, :height, :width] = images[chosen]
        # adding strided views is several times as fast as a sum over short axes
        in_rows = np.zeros((len(chosen), SIDE, SIDE * block_width, *channels), np.uint32)
        for offset in range(block_height):
            in_rows += whole[:, offset::block_height]
        sums = np.zeros((len(chosen), SIDE, SIDE, *channels), np.uint32)
        for offset in range(block_width):
            sums += in_rows[:, :, offset::block_width]
        levels = sums * LEVELS // (255 * block_height * block_width)
        reduced[rows] = levels.reshape(len(chosen), reduced.shape[1])
    return reduced
