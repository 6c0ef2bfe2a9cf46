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
from numpy.typing import NDArray

from lenet5.core.dataset import Array, Split, parts
from lenet5.stages.validate import duplicates

SPLITS = ("train", "test")

PAIRED = "image and label"
"""Value of the column ``holds`` for a complete row."""
_HOLDS = [PAIRED, "image only", "label only"]

_TAILS = 0.001
"""Share of the reference images below the first edge of the bins of ink, and above the last one."""
_MOST_BINS = 20
_IMAGES_PER_BIN = 20
_WIDTHS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)

_CONSTANT = ("label_type", "shape", "height", "width", "dtype")
"""Columns with the same value for every image of a split."""


def ink(images: Array, threshold: int) -> NDArray[np.float64]:
    """Return the share of pixels above a threshold, in any channel, of each image (N,)."""
    shares = np.empty(len(images))
    for rows in parts(images):
        is_ink: Any = images[rows].reshape(-1, math.prod(images.shape[1:])) > threshold  # (N, values)
        if images.ndim == 4:  # (N, H, W, channels)
            is_ink = is_ink.reshape(len(is_ink), -1, images.shape[3]).any(axis=2)
        shares[rows] = is_ink.mean(axis=1)
    return shares


def ink_edges(ink: NDArray[np.float64]) -> tuple[float, ...]:
    """Return edges of bins for shares of ink; the outer bins cover everything else.

    Args:
        ink: (N,), the shares of the reference images.

    Returns:
        One edge or more, in increasing order, each above 0 and below 1.
    """
    low, high = np.quantile(ink, [_TAILS, 1 - _TAILS])
    bins = min(_MOST_BINS, max(2, len(ink) // _IMAGES_PER_BIN))
    width = next((width for width in _WIDTHS if (high - low) / bins <= width), _WIDTHS[-1])
    per_unit = round(1 / width)
    first, last = max(math.floor(low * per_unit), 1), min(math.ceil(high * per_unit), per_unit - 1)
    return tuple(edge / per_unit for edge in range(min(first, last), last + 1))


def ink_bins(edges: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the bins between edges of :func:`ink_edges`, such as ``0.20-0.22``."""
    digits = 2 if all(math.isclose(edge, round(edge, 2)) for edge in edges) else 3
    return tuple(f"{low:.{digits}f}-{high:.{digits}f}" for low, high in pairwise([0.0, *edges, 1.0]))


def images(splits: Mapping[str, Split], ink_threshold: int, ink_edges: Sequence[float]) -> pd.DataFrame:
    """Return a table with one row for each image.

    If a split has different numbers of images and labels, the missing values are null.

    Args:
        splits: raw splits by name; only those in ``SPLITS`` are read.
        ink_threshold: the value above which a pixel is ink, in any channel.
        ink_edges: of the bins of the share of ink.

    Returns:
        A frame with these columns:

        - ``split``, ``index``: identify the image; ``index`` counts from 0 in each split.
        - ``holds``: ``PAIRED``, ``image only`` or ``label only``.
        - ``label``, ``label_type``: the class, and the NumPy dtype that it was stored in.
        - ``shape``, ``height``, ``width``, ``dtype``: of one image, as ``28x28``, 28, 28 and ``uint8``.
        - ``min``, ``max``: the smallest and the largest pixel, in raw units.
        - ``ink``, ``ink_bin``: the share of pixels above ``ink_threshold``, and its bin of
          :func:`ink_bins`.
        - ``duplicate_of``: in train, the index of the first identical image, if that is an earlier one.
        - ``also_in_train``: in test, the index of the first identical train image.
    """
    present = {name: splits[name] for name in SPLITS if name in splits}
    frame = pd.concat(
        [_rows(name, split, ink_threshold, ink_edges) for name, split in present.items()], ignore_index=True
    ).astype(dict.fromkeys(_CONSTANT, "category"))  # concat drops categories that differ between the splits
    first = pd.concat(_first_in_train(present), ignore_index=True)
    train = frame["split"] == "train"
    frame["duplicate_of"] = first.where(train & (first != frame["index"]))
    frame["also_in_train"] = first.where(~train)
    return frame


def add_details(rows: pd.DataFrame, splits: Mapping[str, Split], names: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows of :func:`images` with more columns, which help to find the images elsewhere.

    Args:
        rows: some rows of :func:`images`, with all its columns.
        splits: the raw splits by name.
        names: the names of the classes.

    Returns:
        The rows with ``mean``, the mean of the pixels in raw units, before ``ink``, and ``sha256``, the
        SHA-256 of the pixels, before ``duplicate_of``. Both are null where there is no image. With names,
        ``class``, the name of the label, follows it, and ``likely_class`` the column ``likely_label``; both
        are null where the label is null or has no name.
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
    by_label = dict(enumerate(names))
    for label, name in (("label", "class"), ("likely_label", "likely_class")):
        if by_label and label in rows:
            rows.insert(list(rows).index(label) + 1, name, rows[label].map(by_label))
    return rows


def classes(images: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table with one row for each class of each split.

    Args:
        images: one row for each image: ``split``, ``label``.
        names: the names of the classes; a label is a position in them.

    Returns:
        A frame with the columns ``split``, ``label`` (0 to C - 1), ``class`` (its name), ``count``, and
        ``share``: the count divided by the number of labels in the split, 0 to 1.
    """
    rows = pd.MultiIndex.from_product([SPLITS, range(len(names))], names=["split", "label"])
    counts = images.groupby(["split", "label"], observed=True).size().reindex(rows, fill_value=0)
    totals = images.groupby("split", observed=True)["label"].count().reindex(list(SPLITS), fill_value=0)
    frame = counts.rename("count").reset_index()
    frame.insert(2, "class", list(names) * len(SPLITS))
    frame["share"] = frame["count"] / frame["split"].map(totals.clip(lower=1))
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


def _rows(name: str, split: Split, ink_threshold: int, ink_edges: Sequence[float]) -> pd.DataFrame:
    """Return the rows of one split, with the columns of :func:`images` except the last two."""
    columns = [_labels(split.labels), _pixels(split.images, ink_threshold, ink_edges)]
    length, paired = max(map(len, columns)), min(map(len, columns))
    holds = np.zeros(length, np.int8)
    holds[paired:] = 1 if len(split.images) > paired else 2
    frame = pd.DataFrame(
        {
            "split": _constant(name, length, SPLITS),
            "index": np.arange(length, dtype=np.uint32),
            "holds": pd.Categorical.from_codes(holds, pd.Index(_HOLDS)),
        }
    )
    return pd.concat([frame, *columns], axis=1)


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


def _pixels(images: Array, ink_threshold: int, ink_edges: Sequence[float]) -> pd.DataFrame:
    """Return the columns from ``shape`` to ``ink_bin``."""
    count = len(images)
    low, high = np.empty(count, images.dtype), np.empty(count, images.dtype)
    for rows in parts(images):
        flat = images[rows].reshape(-1, math.prod(images.shape[1:]))  # (N, values)
        low[rows], high[rows] = flat.min(axis=1), flat.max(axis=1)
    shares = ink(images, ink_threshold)
    bins = np.digitize(shares, ink_edges)
    sides = zip(("height", "width"), images.shape[1:], strict=False)
    return pd.DataFrame(
        {
            "shape": _constant("x".join(map(str, images.shape[1:])), count),
            **{name: _constant(side, count) for name, side in sides},
            "dtype": _constant(str(images.dtype), count),
            "min": low,
            "max": high,
            "ink": shares,
            "ink_bin": pd.Categorical.from_codes(bins, pd.Index(ink_bins(ink_edges))),
        }
    )
