"""Encode raw pixels and labels as the arrays that LeNet-5 is trained on."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lenet5.core.dataset import CLASSES, Split, chunks, rescale
from lenet5.core.errors import UsageError

Rows = NDArray[np.intp]
"""Indices into a split (N,), from 0."""


def hold_out(labels: NDArray[np.uint8], images: int, seed: int) -> tuple[Rows, Rows]:
    """Choose validation images, stratified by class.

    Args:
        labels: uint8 (N,).
        images: number of validation images.
        seed: of the random choice.

    Returns:
        The indices of the train images and those of the validation images, both ascending.

    Raises:
        UsageError: a split would have fewer images than there are classes.
    """
    total = len(labels)
    classes = len(np.unique(labels))
    if not classes <= images <= total - classes:
        raise UsageError(
            "The validation split cannot be made.",
            expected=f"preprocess.validation_images from {classes} to {total - classes}",
            found=images,
            fix="change preprocess.validation_images in params.yaml",
        )
    train, validation = train_test_split(
        np.arange(total), test_size=images, stratify=labels, random_state=seed
    )
    return np.sort(train), np.sort(validation)


def encode_rows(split: Split, rows: Rows, padding: int) -> Iterator[Split]:
    """Encode some rows of a split in parts, because the split may exceed the memory.

    Args:
        split: as in :func:`encode`.
        rows: the indices of the images to encode, in the order of the result.
        padding: as in :func:`encode`.

    Yields:
        The next part of the encoded rows, at most ``CHUNK`` images.
    """
    for chunk in chunks(len(rows)):
        part = rows[chunk]
        yield encode(Split(split.images[part], split.labels[part]), padding)


def encode(split: Split, padding: int) -> Split:
    """Encode one split.

    Args:
        split: uint8 images (N, 28, 28), integer labels (N,).
        padding: rows and columns of zeros to add on each side.

    Returns:
        float32 images (N, 28 + 2 padding, 28 + 2 padding, 1) in 0 to 1, float32 one-hot labels (N, 10).
    """
    border = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(split.images, border)  # (N, H, W)
    pixels = padded[..., np.newaxis]  # (N, H, W, 1): NHWC
    return Split(rescale(pixels), one_hot(split.labels))


def one_hot(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Map labels (N,) to one-hot rows, float32 (N, 10)."""
    return np.eye(CLASSES, dtype=np.float32)[labels]
