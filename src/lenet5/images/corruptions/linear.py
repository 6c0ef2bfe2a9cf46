"""Apply linear operations to many images in exact integer arithmetic.

Each operation is a sparse matrix of integer weights in units of ``1 / ONE``. Sums of integers do not depend
on their order, so neither the processor nor the number of threads can change a byte.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Images = NDArray[np.uint8]
Shape = tuple[int, int]

BITS = 14
ONE = 1 << BITS
"""The weight 1. The largest sum, 255 times the weights of a kernel, fits into 32 bits."""


def apply(matrix: sparse.csr_array, images: Images) -> Images:
    """Multiply each image, as a vector of pixels, by the matrix; round, and clip to 0 to 255.

    Args:
        matrix: int32 (H*W, H*W).
        images: uint8 (N, H, W).
    """
    sums = matrix @ images.reshape(len(images), matrix.shape[1]).T.astype(np.int32)  # (H*W, N)
    rounded = np.clip((sums + ONE // 2) >> BITS, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(rounded.T).reshape(images.shape)


def apply_chosen(matrices: Sequence[sparse.csr_array], chosen: NDArray[np.integer], images: Images) -> Images:
    """Apply one of the matrices to each image.

    Args:
        matrices: each int32 (H*W, H*W).
        chosen: (N,), the place of the matrix of each image.
        images: uint8 (N, H, W).
    """
    result = np.empty_like(images)
    for number, matrix in enumerate(matrices):
        result[chosen == number] = apply(matrix, images[chosen == number])
    return result


def stencil(
    offsets: Iterable[tuple[int, int]], weights: NDArray[np.float64], shape: Shape
) -> sparse.csr_array:
    """Return the matrix that makes each pixel the weighted sum of its neighbours.

    A neighbour outside of the image has the value of the nearest pixel inside.

    Args:
        offsets: rows and columns from the pixel to its neighbours.
        weights: one for each offset; they are rounded to units of ``1 / ONE``, and their sum is kept.
        shape: height and width of the images.
    """
    height, width = shape
    whole = _in_units(weights)
    rows, columns = np.indices(shape)
    sources = [
        np.clip(rows + down, 0, height - 1) * width + np.clip(columns + right, 0, width - 1)
        for down, right in offsets
    ]
    return _matrix(np.stack(sources), np.broadcast_to(whole[:, np.newaxis, np.newaxis], (len(whole), *shape)))


@cache
def gaussian(deviation: float, shape: Shape) -> sparse.csr_array:
    """Return the matrix of a Gaussian blur, cut off at three standard deviations.

    Args:
        deviation: the standard deviation in pixels.
        shape: height and width of the images.
    """
    radius = math.ceil(3 * deviation)
    grid = [(r, c) for r in range(-radius, radius + 1) for c in range(-radius, radius + 1)]
    weights = np.array([math.exp(-(r * r + c * c) / (2 * deviation**2)) for r, c in grid])
    return stencil(grid, weights / weights.sum(), shape)


@cache
def warp(
    inverse: tuple[tuple[float, float], tuple[float, float]], shift: tuple[float, float], shape: Shape
) -> sparse.csr_array:
    """Return the matrix of an affine map around the centre, with bilinear interpolation and black outside.

    Args:
        inverse: from rows and columns of the result, relative to the centre, to those of the source.
        shift: rows and columns that are added to the position in the source.
        shape: height and width of the images.
    """
    height, width = shape
    centre = (height - 1) / 2, (width - 1) / 2
    rows, columns = (axis - middle for axis, middle in zip(np.indices(shape), centre, strict=True))
    # positions in units of 1/128 pixel: the product of two distances is in units of 1 / ONE
    down, right = (
        np.rint(128 * (a * rows + b * columns + middle + moved)).astype(np.int64)
        for (a, b), middle, moved in zip(inverse, centre, shift, strict=True)
    )
    sources, weights = [], []
    for r in (0, 1):
        for c in (0, 1):
            row, column = (down >> 7) + r, (right >> 7) + c
            near = (down & 127 if r else 128 - (down & 127)) * (right & 127 if c else 128 - (right & 127))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            sources.append(np.where(inside, row * width + column, 0))
            weights.append(np.where(inside, near, 0))
    return _matrix(np.stack(sources), np.stack(weights))


def _matrix(sources: NDArray[np.int64], weights: NDArray[np.int64]) -> sparse.csr_array:
    """Return the matrix with the weight of each source (K, H, W) in the row of the pixel that it goes to."""
    pixels = sources[0].size
    targets = np.broadcast_to(np.arange(pixels), (len(sources), pixels))
    used = weights.ravel() != 0
    matrix = sparse.coo_array(
        (
            weights.ravel()[used].astype(np.int32),
            (targets.ravel()[used], sources.reshape(len(sources), -1).ravel()[used]),
        ),
        shape=(pixels, pixels),
    ).tocsr()  # adds up the weights of equal sources
    matrix.sum_duplicates()
    return matrix


def _in_units(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to units of ``1 / ONE``, and correct the largest weight so that the sum stays the same."""
    whole = np.rint(weights * ONE).astype(np.int64)
    whole[np.abs(whole).argmax()] += round(math.fsum(weights) * ONE) - int(whole.sum())
    return whole
