"""Encode raw pixels and labels as the arrays that a network is trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lenet5.core.dataset import Split, chunks, rescale
from lenet5.core.errors import DataError, UsageError

Rows = NDArray[np.intp]
"""Indices into a split (N,), from 0."""


def hold_out(
    labels: NDArray[np.integer], images: int, seed: int, classes: Sequence[str] = ()
) -> tuple[Rows, Rows]:
    """Choose validation images, stratified by class.

    Args:
        labels: integers (N,).
        images: number of validation images.
        seed: of the random choice.
        classes: the names of the classes, for the message of an error.

    Returns:
        The indices of the train images and those of the validation images, both ascending.

    Raises:
        UsageError: a split would have fewer images than there are classes.
        DataError: a class has a single image.
    """
    total = len(labels)
    codes, counts = np.unique(labels, return_counts=True)
    single = [repr(classes[code]) if classes else str(code) for code in codes[counts == 1].tolist()]
    if single:
        raise DataError(
            "A class has too few train images to take one for validation.",
            expected="at least 2 train images of each class",
            found=f"1 image of {len(single)} of {len(codes)} classes: {', '.join(single[:10])}"
            + (", …" if len(single) > 10 else ""),
            fix="add images of these classes, or remove the classes from the source and from ingest.classes",
        )
    if not len(codes) <= images <= total - len(codes):
        raise UsageError(
            "The validation split cannot be made.",
            expected=f"preprocess.validation_images from {len(codes)} to {total - len(codes)}",
            found=images,
            fix="change preprocess.validation_images in params.yaml",
        )
    train, validation = train_test_split(
        np.arange(total), test_size=images, stratify=labels, random_state=seed
    )
    return np.sort(train), np.sort(validation)


def encode_rows(split: Split, rows: Rows, padding: int, classes: int) -> Iterator[Split]:
    """Encode some rows of a split in parts, because the split may exceed the memory.

    Args:
        split: as in :func:`encode`.
        rows: the indices of the images to encode, in the order of the result.
        padding: as in :func:`encode`.
        classes: as in :func:`encode`.

    Yields:
        The next part of the encoded rows, at most ``CHUNK`` images.
    """
    for chunk in chunks(len(rows)):
        part = rows[chunk]
        yield encode(Split(split.images[part], split.labels[part]), padding, classes)


def encode(split: Split, padding: int, classes: int) -> Split:
    """Encode one split.

    Args:
        split: uint8 images (N, H, W), or (N, H, W, channels); integer labels (N,).
        padding: rows and columns of zeros to add on each side.
        classes: number of classes.

    Returns:
        float32 images (N, H + 2 padding, W + 2 padding, channels) in 0 to 1, where grey images have one
        channel; float32 one-hot labels (N, classes).
    """
    grey = split.images.ndim == 3
    pixels = split.images[..., np.newaxis] if grey else split.images  # (N, H, W, C): NHWC
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return Split(rescale(padded), one_hot(split.labels, classes))


def one_hot(labels: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Map labels (N,) to one-hot rows, float32 (N, classes)."""
    return np.eye(classes, dtype=np.float32)[labels]
