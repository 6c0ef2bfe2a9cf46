"""Convolve with the classical 3x3 kernels, and mix the result into the image by fifths."""

from collections.abc import Callable

import numpy as np

from lenet5.images import operations
from lenet5.images.corruptions.linear import Images
from lenet5.images.kernels import KERNELS

_UNIT = 16
"""Every weight of the kernels is a whole number of sixteenths."""


def corruption(name: str) -> Callable[[Images, int, np.random.Generator], Images]:
    """Return the corruption that mixes ``severity`` fifths of the convolution with the rest of the image."""
    kernel = (KERNELS[name] * _UNIT).astype(np.int32)

    def convolve(images: Images, severity: int, rng: np.random.Generator) -> Images:
        pixels = images.astype(np.int32)
        convolved = operations.convolve(pixels, kernel, padding="same")
        mixed = severity * convolved + (5 - severity) * _UNIT * pixels
        return np.clip((mixed + 5 * _UNIT // 2) // (5 * _UNIT), 0, 255).astype(np.uint8)

    convolve.__doc__ = f"Convolve with the kernel ``{name}``."
    return convolve
