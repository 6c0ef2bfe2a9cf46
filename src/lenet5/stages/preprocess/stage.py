"""Run the stage ``preprocess``: split the raw train images, encode them, write them to ``data/processed``.

:func:`run` reads and writes files; :func:`hold_out` and :func:`encode` see arrays.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lenet5.core import dataset
from lenet5.core.dataset import Split, chunks, rescale
from lenet5.core.errors import DataError, UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Validation
from lenet5.stages.preprocess.params import Preprocess

Rows = NDArray[np.intp]
"""Indices into a split (N,), from 0."""


def run(paths: Paths, params: Preprocess) -> str:
    """Write train and validation to ``data/processed``, ready for training.

    The raw test images are not processed: evaluation sends them to the saved model, as a client does.

    Returns:
        One line for each split: its shape, its dtype, its folder.

    Raises:
        DataError: the data is damaged, or this data has not passed validation.
        UsageError: the validation split cannot be made.
    """
    raw = dataset.load(paths.raw)
    _require_validation(paths, raw.manifest.digest)
    train = raw.splits["train"]
    names = raw.manifest.description.classes
    classes = len(names)
    train_rows, validation_rows = hold_out(train.labels, params.validation_images, params.seed, names)
    manifest = dataset.save(
        paths.processed,
        {
            "train": encode_rows(train, train_rows, params.padding, classes),
            "validation": encode_rows(train, validation_rows, params.padding, classes),
        },
        description=raw.manifest.description,
        made_from=raw.manifest.digest,
        padding=params.padding,
    )
    return "\n".join(
        f"{name:<10} {split.images.shape} {np.dtype(split.images.dtype)} → {paths.processed / name}"
        for name, split in manifest.splits.items()
    )


def _require_validation(paths: Paths, digest: str) -> None:
    """Reject data that was not validated. DVC orders the stages, but a user can run one stage alone."""
    validation = Validation.read(paths.validation)
    if not validation.success or validation.data_digest != digest:
        raise DataError(
            "This data has not passed validation, so it is not processed.",
            expected=f"success for data {digest[:12]} in {paths.validation}",
            found=f"success: {validation.success}, data {validation.data_digest[:12]}",
            fix="`dvc repro preprocess` validates first",
        )


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
