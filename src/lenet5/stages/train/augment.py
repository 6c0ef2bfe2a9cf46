"""Distort train images by small random amounts (LeCun et al., 1998, section III-A)."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lenet5.stages.train.params import Distortion


def draw_amounts(limits: Distortion, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the amounts of distortion for ``count`` images, uniform within ``limits``.

    Returns:
        float64 (5, count): the angle in radians; the shares by which rows and columns are stretched; the
        pixels by which rows and columns are shifted.
    """
    angle = np.radians(random.uniform(-limits.rotation, limits.rotation, count))
    stretch = random.uniform(-limits.scale, limits.scale, (2, count))
    shift = random.uniform(-limits.shift, limits.shift, (2, count))
    return np.stack([angle, *stretch, *shift])


def augment(images: NDArray[np.float32], amounts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shift, rotate and scale each image by its own amounts.

    Args:
        images: float32 (B, H, W, 1).
        amounts: float64 (5, B), from :func:`draw_amounts`.

    Returns:
        float32 (B, H, W, 1), interpolated bilinearly; pixels from outside the original image are 0. If all
        amounts are 0, ``images`` itself.
    """
    if not amounts.any():
        return images
    count, height, width, _ = images.shape
    angle, zoom, shift = amounts[0], 1 + amounts[1:3], amounts[3:5]
    cosine, sine = np.cos(angle), np.sin(angle)
    # maps a pixel of the result to its source: (2, 2, B), rows and columns relative to the centre
    matrix = np.array([[cosine * zoom[0], -sine * zoom[1]], [sine * zoom[0], cosine * zoom[1]]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    grid = np.indices((height, width)) - centre[:, np.newaxis, np.newaxis]  # (2, H, W)
    sources = np.einsum("ijb,jhw->ibhw", matrix, grid)  # (2, B, H, W)
    sources += (centre[:, np.newaxis] + shift)[..., np.newaxis, np.newaxis]
    image = np.broadcast_to(np.arange(count)[:, np.newaxis, np.newaxis], sources.shape[1:])
    return map_coordinates(images[..., 0], np.stack([image, *sources]), order=1)[..., np.newaxis]
