"""From raw pixels to what LeNet-5 is trained on."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lenet5.dataset import CLASSES, PIXEL_SCALE, Split
from lenet5.errors import UsageError


def hold_out(train: Split, images: int, seed: int) -> tuple[Split, Split]:
    """Split off ``images`` examples, stratified by label: (the rest, the held-out), each in its old order.

    Raises:
        UsageError: nothing would be left, or there are fewer held-out images than classes.
    """
    total = len(train.labels)
    classes = len(np.unique(train.labels))
    if not classes <= images <= total - classes:
        raise UsageError(
            "The validation split cannot be made.",
            expected=f"preprocess.validation_images from {classes} to {total - classes}",
            found=images,
            do="change preprocess.validation_images in params.yaml",
        )
    kept, held = train_test_split(
        np.arange(total), test_size=images, stratify=train.labels, random_state=seed
    )
    kept, held = np.sort(kept), np.sort(held)
    return Split(train.images[kept], train.labels[kept]), Split(train.images[held], train.labels[held])


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
