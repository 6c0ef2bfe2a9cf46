"""Small random distortions of the images, as in LeCun et al., 1998, section III-A: more to learn from."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lenet5.stages.train.params import Distortion


def draw_amounts(limits: Distortion, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Amounts for each of ``count`` images (5, count), uniform within ``limits``.

    Radians to turn by; shares to stretch rows and columns by, each on its own; pixels to shift them by.
    """
    angle = np.radians(random.uniform(-limits.rotation, limits.rotation, count))
    stretch = random.uniform(-limits.scale, limits.scale, (2, count))
    shift = random.uniform(-limits.shift, limits.shift, (2, count))
    return np.stack([angle, *stretch, *shift])


def augment(images: NDArray[np.float32], amounts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shift, turn and scale each image by its own amounts.

    Args:
        images: (B, H, W, 1).
        amounts: (5, B), as :func:`draw_amounts` gives them.

    Returns:
        The same shape, interpolated bilinearly, 0 where a picture would begin outside; ``images`` itself when
        there is nothing to do.
    """
    if not amounts.any():
        return images
    count, height, width, _ = images.shape
    angle, zoom, shift = amounts[0], 1 + amounts[1:3], amounts[3:5]
    cosine, sine = np.cos(angle), np.sin(angle)
    # where each pixel of the result comes from: (2, 2, B), rows and columns around the centre
    matrix = np.array([[cosine * zoom[0], -sine * zoom[1]], [sine * zoom[0], cosine * zoom[1]]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    grid = np.indices((height, width)) - centre[:, np.newaxis, np.newaxis]  # (2, H, W)
    places = np.einsum("ijb,jhw->ibhw", matrix, grid)  # (2, B, H, W)
    places += (centre[:, np.newaxis] + shift)[..., np.newaxis, np.newaxis]
    picture = np.broadcast_to(np.arange(count)[:, np.newaxis, np.newaxis], places.shape[1:])
    return map_coordinates(images[..., 0], np.stack([picture, *places]), order=1)[..., np.newaxis]
