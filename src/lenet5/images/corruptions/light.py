"""Change the brightness, invert areas, add fog."""

import numpy as np
from numpy.typing import NDArray

from lenet5.images.corruptions.linear import Images

_MAP = 256
"""Rows and columns of a map of fog; a power of two."""


def brightness(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Add the same amount to all pixels."""
    amount = (25, 76, 128, 153, 178)[severity - 1]
    return np.minimum(images, 255 - amount) + np.uint8(amount)


def stripe(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Invert a stripe at the left and one at the right edge."""
    share = (1, 4, 7, 9, 11)[severity - 1]  # in units of 1/28 of the width
    result = images.copy()
    width = max(1, images.shape[2] * share // 28)  # -0 would select the whole image
    result[:, :, :width] ^= 255
    result[:, :, -width:] ^= 255
    return result


def inversion(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Invert the upper part; with severity 5, the whole image."""
    result = images.copy()
    result[:, : images.shape[1] * severity // 5] ^= 255
    return result


def fog(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Add a random window of fractal fog, and reduce the contrast."""
    density, decay = ((1.0, 2.0), (2.0, 1.7), (3.0, 1.4), (3.5, 1.35), (4.0, 1.3))[severity - 1]
    count, height, width = images.shape
    maps = np.stack([_plasma(decay, rng) for _ in range(1 + count // 128)]).astype(np.float32)
    top, left = rng.integers(0, _MAP, (2, count, 1, 1))
    chosen = np.arange(count)[:, np.newaxis, np.newaxis] // 128
    rows = (top + np.arange(height)[:, np.newaxis]) % _MAP
    columns = (left + np.arange(width)) % _MAP
    pixels = images.astype(np.float32) / np.float32(255)
    brightest = pixels.max(axis=(1, 2), keepdims=True, initial=0)
    foggy = (pixels + np.float32(density) * maps[chosen, rows, columns]) * (
        brightest / (brightest + np.float32(density))
    )
    return np.clip(np.rint(foggy * np.float32(255)), 0, 255).astype(np.uint8)


def _plasma(decay: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a fractal map by the diamond-square algorithm, 0 to 1, float64 (256, 256); it tiles the plane.

    Args:
        decay: from each size of squares to the next one, the random amounts are divided by its square.
        rng: decides the map.
    """
    plane = np.zeros((_MAP, _MAP))
    size, amplitude = _MAP, 100.0

    def displaced(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return sums / 4 + amplitude * amplitude * (2 * rng.random(sums.shape) - 1)

    while size >= 2:
        half = size // 2
        corners = plane[::size, ::size]
        sums = corners + np.roll(corners, -1, axis=0)
        plane[half::size, half::size] = displaced(sums + np.roll(sums, -1, axis=1))
        centres = plane[half::size, half::size]
        across = corners + np.roll(corners, -1, axis=1)
        plane[::size, half::size] = displaced(centres + np.roll(centres, 1, axis=0) + across)
        down = corners + np.roll(corners, -1, axis=0)
        plane[half::size, ::size] = displaced(centres + np.roll(centres, 1, axis=1) + down)
        size, amplitude = half, amplitude / decay
    plane -= plane.min()
    return plane / plane.max()
