"""Measure each image: stroke thickness, size, slant and foreground share.

The quantities are those of Morpho-MNIST (Castro et al., 2019, "Morpho-MNIST: quantitative assessment and
diagnostics for representation learning"), computed from the pixels as they are. Morpho-MNIST first enlarges
each image four times and finds its skeleton, which takes minutes for all of MNIST.

All sums are sums of integers, and one rounded operation at a time follows them (IEEE 754). So the results are
equal to the last bit on every processor, for every order of the sums.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import chunks

FOREGROUND = 128
"""The lowest value of a foreground pixel: half the range, as in Morpho-MNIST."""


def measure(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Measure every image.

    Args:
        images: uint8 (N, H, W), bright strokes on a dark background, or (N, H, W, 3) for RGB, of which
            :func:`grey` is measured; a memory map of any size.

    Returns:
        Four measures by name, each float64 (N,). A blank image has 0 in all of them.

        - ``stroke_thickness``: mean width of the strokes in pixels, see :func:`stroke_thickness`.
        - ``size``: square root of height times width of the box around the foreground, in pixels.
        - ``slant``: tangent of the angle between the strokes and the vertical, see :func:`slant`.
        - ``foreground``: share of the pixels that are at least ``FOREGROUND``, 0 to 1.
    """
    measures = {name: np.empty(len(images)) for name in MEASURES}
    for rows in chunks(len(images)):
        part = grey(np.asarray(images[rows]))
        for name, compute in MEASURES.items():
            measures[name][rows] = compute(part)
    return measures


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of RGB images (ITU-R BT.601), rounded; grey images are returned as they are.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 3).

    Returns:
        uint8 (N, H, W).
    """
    if images.ndim == 3:
        return images
    red, green, blue = np.moveaxis(images, -1, 0).astype(np.uint32)
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def stroke_thickness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean width of the strokes in pixels, (N,): twice the area divided by the perimeter.

    A long stroke of length L and width w has the area L·w and the perimeter 2·L. The ends of a stroke make
    the result smaller: a bar gets w · L / (L + w). The result does not depend on the brightness: two columns
    of grey are as wide as two columns of white.

    The area is the sum of the pixels, 0 to 1. The perimeter follows from the Cauchy-Crofton formula with four
    directions: rows, columns and both diagonals, whose lines are 1/√2 pixel apart,

        perimeter = π/8 · (rows + columns + (diagonals 1 + diagonals 2) / √2),

    where each term is the sum of the absolute differences of neighbouring pixels. This sum is the number of
    crossings between lines and the outline, averaged over all thresholds. A straight
    outline gets 95 % to 103 % of its length, depending on its direction.
    """
    count = len(images)
    padded = np.pad(images.astype(np.int16), ((0, 0), (1, 1), (1, 1)))
    axes = (padded[:, 1:], padded[:, :-1]), (padded[:, :, 1:], padded[:, :, :-1])
    diagonals = (padded[:, 1:, 1:], padded[:, :-1, :-1]), (padded[:, 1:, :-1], padded[:, :-1, 1:])
    straight, oblique = (
        sum(
            (np.abs(first - second).sum(axis=(1, 2), dtype=np.int64) for first, second in pairs),
            start=np.zeros(count, np.int64),
        )
        for pairs in (axes, diagonals)
    )
    perimeter = np.pi / 8 * (straight + oblique / np.sqrt(2))
    area = images.sum(axis=(1, 2), dtype=np.int64)
    return _quotient(2 * area, perimeter)


def size(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the square root of the area of the box around the foreground, in pixels, (N,)."""
    mask = images >= FOREGROUND
    area = _extent(np.any(mask, axis=2)) * _extent(np.any(mask, axis=1))
    return np.sqrt(area.astype(np.float64))


def slant(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the columns by which the strokes move to the right for each row upwards, (N,).

    With the central moments μ of the pixels this is -μ11 / μ02. Morpho-MNIST takes the arc tangent of it:
    0.27 is an angle of 15°. It is 0 for an image whose strokes lie in one row.
    """
    _, height, width = images.shape
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    # float64 holds these integers exactly: they are far below 2 ** 53
    values = images.astype(np.float64)
    by_row, row_moments = values.sum(axis=2), values @ columns  # (N, H)
    total, moment_x, moment_y = by_row.sum(axis=1), row_moments.sum(axis=1), by_row @ rows  # (N,)
    shared = total * (row_moments @ rows) - moment_x * moment_y
    vertical = total * (by_row @ rows**2) - moment_y**2
    return _quotient(-shared, vertical) + 0.0  # -0 becomes 0


def foreground(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of the foreground pixels, 0 to 1, (N,)."""
    _, height, width = images.shape
    return (images >= FOREGROUND).sum(axis=(1, 2), dtype=np.int64) / (height * width)


def _extent(occupied: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of places from the first to the last occupied one, (N,): 0 if there is none."""
    length = occupied.shape[1]
    between = length - occupied.argmax(axis=1) - occupied[:, ::-1].argmax(axis=1)
    return np.where(occupied.any(axis=1), between, 0).astype(np.int64)


def _quotient(
    dividend: NDArray[np.int64] | NDArray[np.float64], divisor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide element by element, (N,); a quotient by 0 is 0."""
    return np.divide(dividend, divisor, out=np.zeros(len(divisor)), where=divisor != 0)


MEASURES: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = MappingProxyType(
    {"stroke_thickness": stroke_thickness, "size": size, "slant": slant, "foreground": foreground}
)
