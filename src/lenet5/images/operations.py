"""Pad, convolve and pool images in NumPy: the operations that a convolutional network consists of.

The results are those of Keras' ``ZeroPadding2D``, ``Conv2D``, ``MaxPooling2D`` and ``AveragePooling2D``. Like
every deep-learning library, "convolution" here does not rotate the kernel; mathematics calls this operation
cross-correlation.
"""

from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lenet5.core.dataset import Array

Padding = Literal["valid", "same"] | int
"""Zeros around an image: none (``valid``), as many as keep its size with a stride of 1 (``same``), or so many
rows and columns on each side."""


def output_size(size: int, kernel: int, stride: int = 1, padding: Padding = "valid") -> int:
    """Return the number of rows (or columns) after a convolution or a pooling.

    With ``p`` zeros on each side: ``floor((size + 2 * p - kernel) / stride) + 1``; ``valid`` is ``p = 0``.
    With ``same``: ``ceil(size / stride)``.

    Args:
        size: rows (or columns) of the image.
        kernel: rows (or columns) of the kernel or of the pooling window.
        stride: pixels between two positions of the kernel.
        padding: see :data:`Padding`.

    Raises:
        ValueError: the kernel is larger than the padded image.
    """
    padded = size + sum(pad_widths(size, kernel, stride, padding))
    if kernel > padded:
        raise ValueError(f"a kernel of {kernel} does not fit into {padded} pixels")
    return (padded - kernel) // stride + 1


def pad_widths(size: int, kernel: int, stride: int = 1, padding: Padding = "valid") -> tuple[int, int]:
    """Return the zeros before and after the pixels of one row (or column); see :func:`output_size`.

    With ``same`` and an odd number of zeros, the additional zero comes after the pixels, as in Keras.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        outputs = -(-size // stride)  # rounded up
        zeros = max((outputs - 1) * stride + kernel - size, 0)
        return zeros // 2, zeros - zeros // 2
    return padding, padding


def pad(
    images: Array,
    rows: int | tuple[int, int],
    columns: int | tuple[int, int] | None = None,
    value: float = 0,
) -> Array:
    """Surround images with a constant: (N, H, W) or (N, H, W, C) → the same with more rows and columns.

    Args:
        images: any dtype, which the result keeps.
        rows: new rows above and below, or one number for both.
        columns: new columns to the left and to the right; ``None``: as many as rows.
        value: the new pixels.
    """
    columns = rows if columns is None else columns
    sides = [(width, width) if isinstance(width, int) else width for width in (rows, columns)]
    around = [(0, 0), *sides, *[(0, 0)] * (images.ndim - 3)]
    return np.pad(images, around, constant_values=value)


def windows(images: Array, height: int, width: int, stride: int = 1) -> Array:
    """Return every part of the images that a kernel sees, as a view that copies nothing.

    Args:
        images: (N, H, W) or (N, H, W, C).
        height: rows of the kernel.
        width: columns of the kernel.
        stride: pixels between two positions of the kernel.

    Returns:
        (N, H', W', height, width) or (N, H', W', C, height, width).
    """
    return sliding_window_view(images, (height, width), (1, 2))[:, ::stride, ::stride]


def convolve(images: Array, kernel: Array, stride: int = 1, padding: Padding = "valid") -> Array:
    """Convolve each grey image with one kernel: (N, H, W) and (h, w) → (N, H', W').

    Each output pixel is the sum of the pixels under the kernel, each multiplied by its weight. The dtype is
    that of NumPy's product: uint8 images and a float32 kernel give float32.
    """
    height, width = kernel.shape
    seen = windows(_padded(images, height, width, stride, padding), height, width, stride)
    products: Any = (weight * seen[..., row, column] for (row, column), weight in np.ndenumerate(kernel))
    return sum(products)


def convolve_channels(
    images: Array, kernels: Array, bias: Array | float = 0, stride: int = 1, padding: Padding = "valid"
) -> Array:
    """Convolve images of several channels with several kernels, as a layer ``Conv2D`` does.

    Args:
        images: (N, H, W, C).
        kernels: (h, w, C, F): F kernels, each with its own weights for each channel, as Keras stores them.
        bias: (F,), added to every pixel of each output channel.
        stride: pixels between two positions of the kernel.
        padding: see :data:`Padding`.

    Returns:
        (N, H', W', F).
    """
    height, width = kernels.shape[:2]
    seen = windows(_padded(images, height, width, stride, padding), height, width, stride)
    return np.tensordot(seen, kernels, axes=((4, 5, 3), (0, 1, 2))) + bias


def pool(
    images: Array, size: int = 2, stride: int | None = None, kind: Literal["max", "average"] = "max"
) -> Array:
    """Replace each window of the images by its largest or its mean pixel.

    Rows and columns that fill no window are dropped: 2x2 windows make 5 of 11 rows.

    Args:
        images: (N, H, W) or (N, H, W, C).
        size: rows and columns of a window.
        stride: pixels between two windows; ``None``: windows lie side by side (stride = size).
        kind: what replaces a window.

    Returns:
        (N, H', W') or (N, H', W', C); the dtype of the images, or a floating one for means of integers.
    """
    seen = windows(images, size, size, stride or size)
    if kind == "average":
        return seen.mean((-2, -1))
    return reduce(np.maximum, (seen[..., row, column] for row, column in np.ndindex(size, size)))


def _padded(images: Array, height: int, width: int, stride: int, padding: Padding) -> Array:
    """Pad images for a kernel of this height and width.

    Raises:
        ValueError: the kernel is larger than the padded image.
    """
    sizes = list(zip(images.shape[1:3], (height, width), strict=True))
    for size, kernel in sizes:
        output_size(size, kernel, stride, padding)  # raises the error
    rows, columns = (pad_widths(size, kernel, stride, padding) for size, kernel in sizes)
    return pad(images, rows, columns)
