"""Add noise to single pixels."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from lenet5.images.corruptions.linear import Images

_LEVELS = 4096
"""Random numbers of 12 bits choose the count of a Poisson distribution."""


def shot_noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Replace each pixel by a Poisson count of photons; few photons give much noise."""
    photons = (12.0, 5.0, 3.0, 2.0, 1.5)[severity - 1]  # in a white pixel
    chosen = rng.integers(0, _LEVELS, images.shape, dtype=np.uint16)
    return _poisson(photons).take(images.astype(np.int32) * _LEVELS + chosen)


def impulse_noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Make some pixels black and as many white."""
    share = (0.04, 0.10, 0.17, 0.25, 0.35)[severity - 1]
    chosen = rng.integers(0, 2**16, images.shape, dtype=np.uint16)
    result = images.copy()
    result[chosen < share * 2**15] = 0
    result[chosen >= 2**16 - share * 2**15] = 255
    return result


@cache
def _poisson(photons: float) -> NDArray[np.uint8]:
    """Return the noisy pixel by pixel value (0 to 255) and random number: uint8 (256 * _LEVELS,)."""
    counts = np.arange(int(photons) + 2)
    pixels = np.minimum(np.rint(255 * counts / photons), 255).astype(np.uint8)
    table = np.empty((256, _LEVELS), np.uint8)
    for value in range(256):
        ends = np.rint(pdtr(counts, value / 255 * photons) * _LEVELS)
        number = np.searchsorted(ends, np.arange(_LEVELS), side="right")
        table[value] = pixels[np.minimum(number, len(counts) - 1)]
    return table.ravel()
