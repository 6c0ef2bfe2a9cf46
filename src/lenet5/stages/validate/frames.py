"""Describe raw images and labels in tables, so that every check is an expectation about a column.

Great Expectations copies the table for every check, so a row has only 34 bytes: texts are categories, digests
are dropped after the search for duplicates, and columns that no check reads are added to failing rows only.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from lenet5.core.dataset import CLASSES, Array, Split, chunks
from lenet5.stages.validate import duplicates

SPLITS = ("train", "test")

PAIRED = "image and label"
"""Value of the column ``holds`` for a complete row."""
_HOLDS = [PAIRED, "image only", "label only"]

# The bins are 0.02 wide in the range of MNIST's digits. The outer bins cover everything else, so that even
# blank and full images are in a bin.
_INK_EDGES = np.arange(6, 42, 2) / 100
_INK_LIMITS = [0.0, *_INK_EDGES.tolist(), 1.0]
INK_BINS = tuple(f"{low:.2f}-{high:.2f}" for low, high in pairwise(_INK_LIMITS))
"""Names of the bins of the share of ink, such as ``0.20-0.22``."""

_CONSTANT = ("label_type", "shape", "height", "width", "dtype")
"""Columns with the same value for every image of a split."""


def images(splits: Mapping[str, Split], ink_threshold: int) -> pd.DataFrame:
    """Return a table with one row for each image.

    If a split has different numbers of images and labels, the missing values are null.

    Args:
        splits: raw splits by name; only those in ``SPLITS`` are read.
        ink_threshold: the pixel value above which a pixel is ink.

    Returns:
        A frame with these columns:

        - ``split``, ``index``: identify the image; ``index`` counts from 0 in each split.
        - ``holds``: ``PAIRED``, ``image only`` or ``label only``.
        - ``label``, ``label_type``: the class, and the NumPy dtype that it was stored in.
        - ``shape``, ``height``, ``width``, ``dtype``: of one image, as ``28x28``, 28, 28 and ``uint8``.
        - ``min``, ``max``: the smallest and the largest pixel, in raw units.
        - ``ink``, ``ink_bin``: the share of pixels above ``ink_threshold``, and its bin of ``INK_BINS``.
        - ``duplicate_of``: in train, the index of the first identical image, if that is an earlier one.
        - ``also_in_train``: in test, the index of the first identical train image.
    """
    present = {name: splits[name] for name in SPLITS if name in splits}
    frame = pd.concat(
        [_rows(name, split, ink_threshold) for name, split in present.items()], ignore_index=True
    ).astype(dict.fromkeys(_CONSTANT, "category"))  # concat drops categories that differ between the splits
    first = pd.concat(_first_in_train(present), ignore_index=True)
    train = frame["split"] == "train"
    frame["duplicate_of"] = first.where(train & (first != frame["index"]))
    frame["also_in_train"] = first.where(~train)
    return frame


def add_details(rows: pd.DataFrame, splits: Mapping[str, Split]) -> pd.DataFrame:
    """Return rows of :func:`images` with two more columns, which help to find the images elsewhere.

    Args:
        rows: some rows of :func:`images`, with all its columns.
        splits: the raw splits by name.

    Returns:
        The rows with ``mean``, the mean of the pixels in raw units, before ``ink``, and ``sha256``, the
        SHA-256 of the pixels, before ``duplicate_of``. Both are null where there is no image.
    """
    images = [
        splits[name].images[index] if index < len(splits[name].images) else None
        for name, index in zip(rows["split"], rows["index"], strict=True)
    ]
    rows = rows.copy()
    means = [None if image is None else image.mean() for image in images]
    digests = [None if image is None else hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    rows.insert(list(rows).index("ink"), "mean", means)
    rows.insert(list(rows).index("duplicate_of"), "sha256", digests)
    return rows


def classes(images: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one row for each class of each split.

    Args:
        images: one row for each image: ``split``, ``label``.

    Returns:
        A frame with the columns ``split``, ``label`` (0 to 9), ``count``, and ``share``: the count divided by
        the number of labels in the split, 0 to 1.
    """
    rows = pd.MultiIndex.from_product([SPLITS, range(CLASSES)], names=["split", "label"])
    counts = images.groupby(["split", "label"]).size().reindex(rows, fill_value=0)
    totals = images.groupby("split")["label"].count().reindex(list(SPLITS), fill_value=0).clip(lower=1)
    frame = counts.rename("count").reset_index()
    frame["share"] = frame["count"] / frame["split"].map(totals)
    return frame


def _first_in_train(splits: Mapping[str, Split]) -> "list[pd.Series[int]]":
    """Return for each split, UInt32 (N,): the index of the first identical train image, or null."""
    train = duplicates.digests(splits["train"].images) if "train" in splits else np.empty(0, np.uint64)
    firsts = []
    for name, split in splits.items():
        digests = train if name == "train" else duplicates.digests(split.images)
        rows = range(max(len(split.images), len(split.labels)))
        firsts.append(duplicates.first_match(digests, train).reindex(rows))
    return firsts


def _rows(name: str, split: Split, ink_threshold: int) -> pd.DataFrame:
    """Return the rows of one split, with the columns of :func:`images` except the last two."""
    parts = [_labels(split.labels), _pixels(split.images, ink_threshold)]
    length, paired = max(map(len, parts)), min(map(len, parts))
    holds = np.zeros(length, np.int8)
    holds[paired:] = 1 if len(split.images) > paired else 2
    frame = pd.DataFrame(
        {
            "split": _constant(name, length, SPLITS),
            "index": np.arange(length, dtype=np.uint32),
            "holds": pd.Categorical.from_codes(holds, pd.Index(_HOLDS)),
        }
    )
    return pd.concat([frame, *parts], axis=1)


def _constant(value: Any, rows: int, categories: Sequence[Any] = ()) -> pd.Categorical:
    """Return a column (rows,) with one value; the categories are given, or they are that value only."""
    categories = categories or [value]
    return pd.Categorical.from_codes(np.full(rows, categories.index(value), np.int8), pd.Index(categories))


def _labels(labels: Array) -> pd.DataFrame:
    """Return the columns ``label`` and ``label_type``."""
    is_integer = labels.dtype.kind in "iu"
    # `label_type` shows that labels are nested (one-hot, for example); `label` has the first element of each
    first = labels.reshape(len(labels), -1)[:, 0] if labels.ndim > 1 else labels
    return pd.DataFrame(
        {
            "label": pd.Series(pd.array(first) if is_integer else first),
            "label_type": _constant(" x ".join(map(str, (labels.dtype, *labels.shape[1:]))), len(labels)),
        }
    )


def _pixels(images: Array, ink_threshold: int) -> pd.DataFrame:
    """Return the columns from ``shape`` to ``ink_bin``."""
    count = len(images)
    low, high, ink = np.empty(count, images.dtype), np.empty(count, images.dtype), np.empty(count)
    for rows in chunks(count):
        flat = images[rows].reshape(-1, math.prod(images.shape[1:]))  # (N, pixels)
        low[rows], high[rows] = flat.min(axis=1), flat.max(axis=1)
        ink[rows] = (flat > ink_threshold).mean(axis=1)
    sides = zip(("height", "width"), images.shape[1:], strict=False)
    return pd.DataFrame(
        {
            "shape": _constant("x".join(map(str, images.shape[1:])), count),
            **{name: _constant(side, count) for name, side in sides},
            "dtype": _constant(str(images.dtype), count),
            "min": low,
            "max": high,
            "ink": ink,
            "ink_bin": pd.Categorical.from_codes(np.digitize(ink, _INK_EDGES), pd.Index(INK_BINS)),
        }
    )
