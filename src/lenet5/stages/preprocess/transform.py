"""From raw pixels to what LeNet-5 is trained on."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lenet5.core.dataset import CLASSES, PIXEL_SCALE, Split, chunks
from lenet5.core.errors import UsageError

Rows = NDArray[np.intp]
"""Places in a split, from 0."""


def hold_out(labels: NDArray[np.uint8], images: int, seed: int) -> tuple[Rows, Rows]:
    """Split off ``images`` of the labels (N,), stratified: places of the rest and of the held-out, ascending.

    Raises:
        UsageError: nothing would be left, or there are fewer held-out images than classes.
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
    kept, held = train_test_split(np.arange(total), test_size=images, stratify=labels, random_state=seed)
    return np.sort(kept), np.sort(held)


def encode_rows(split: Split, rows: Rows, padding: int) -> Iterator[Split]:
    """Encode some rows of a split, in parts, so that the split may be a memory-map of any size."""
    for chunk in chunks(len(rows)):
        part = rows[chunk]
        yield encode(Split(split.images[part], split.labels[part]), padding)


def encode(split: Split, padding: int) -> Split:
    """Encode one split.

    Args:
        split: uint8 images (N, 28, 28), integer labels (N,).
        padding: rows and columns of zeros to put on each side.

    Returns:
        float32 images (N, 28 + 2 padding, 28 + 2 padding, 1) in 0 to 1, float32 one-hot labels (N, 10).
    """
    border = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(split.images, border)  # (N, H, W)
    pixels = padded[..., np.newaxis]  # (N, H, W, 1): NHWC
    return Split(rescale(pixels), one_hot(split.labels))


def rescale(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map pixels 0 to 255 onto 0 to 1, to the bit as the saved model does it."""
    return pixels.astype(np.float32) * np.float32(PIXEL_SCALE)


def one_hot(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Map labels (N,) onto rows of the identity matrix (N, 10)."""
    return np.eye(CLASSES, dtype=np.float32)[labels]
