"""Raw images and labels as tables, so that every check is a statement about a column.

Great Expectations copies the table for every check, so a row is 34 bytes: words are categories, digests are
only there while repetitions are searched for, and what no check asks about comes with the rows that failed.
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
_HOLDS = [PAIRED, "image only", "label only"]

# Shares of inked pixels. Two hundredths wide where MNIST's digits are; the ends take everything beyond,
# blank and full images too, so that no image is outside the bins.
_INK_EDGES = np.arange(6, 42, 2) / 100
_INK_LIMITS = [0.0, *_INK_EDGES.tolist(), 1.0]
INK_BINS = tuple(f"{low:.2f}-{high:.2f}" for low, high in pairwise(_INK_LIMITS))

_SAME = ("label_type", "shape", "height", "width", "dtype")
"""Columns that say the same of every image of a split."""


def images(splits: Mapping[str, Split], ink_threshold: int) -> pd.DataFrame:
    """One row an image. Where a split holds more images than labels (or fewer), what is missing is null.

    Columns:
        split, index: which image; ``index`` counts from 0 in each split.
        holds: ``PAIRED``, ``image only`` or ``label only``.
        label, label_type: the class and the NumPy type it was stored in.
        shape, height, width, dtype: of one image, as ``28x28``, 28, 28 and ``uint8``.
        min, max: of its pixels, in raw units.
        ink, ink_bin: share of pixels above ``ink_threshold``, and its bin of ``INK_BINS``.
        duplicate_of: for train, index of the first identical image, where that is an earlier one.
        also_in_train: for test, index of the first identical image of train.
    """
    present = {name: splits[name] for name in SPLITS if name in splits}
    frame = pd.concat(
        [_rows(name, split, ink_threshold) for name, split in present.items()], ignore_index=True
    ).astype(dict.fromkeys(_SAME, "category"))  # again: where the splits differ, they are not any more
    first = pd.concat(_first_in_train(present), ignore_index=True)
    train = frame["split"] == "train"
    frame["duplicate_of"] = first.where(train & (first != frame["index"]))
    frame["also_in_train"] = first.where(~train)
    return frame


def described(rows: pd.DataFrame, splits: Mapping[str, Split]) -> pd.DataFrame:
    """Some rows of ``images`` with what no check asks for, null where there is no image.

    Columns:
        mean: of the pixels, in raw units.
        sha256: of the pixels.
    """
    found = [
        splits[name].images[index] if index < len(splits[name].images) else None
        for name, index in zip(rows["split"], rows["index"], strict=True)
    ]
    rows = rows.copy()
    means = [None if image is None else image.mean() for image in found]
    digests = [None if image is None else hashlib.sha256(image.tobytes()).hexdigest() for image in found]
    rows.insert(list(rows).index("ink"), "mean", means)
    rows.insert(list(rows).index("duplicate_of"), "sha256", digests)
    return rows


def classes(images: pd.DataFrame) -> pd.DataFrame:
    """One row a split and class: split, label, count, and share (0 to 1) of the split's labels."""
    every = pd.MultiIndex.from_product([SPLITS, range(CLASSES)], names=["split", "label"])
    counts = images.groupby(["split", "label"]).size().reindex(every, fill_value=0)
    totals = images.groupby("split")["label"].count().reindex(list(SPLITS), fill_value=0).clip(lower=1)
    frame = counts.rename("count").reset_index()
    frame["share"] = frame["count"] / frame["split"].map(totals)
    return frame


def _first_in_train(splits: Mapping[str, Split]) -> "list[pd.Series[int]]":
    """For each row of each split, the index of the first identical image of train, or null."""
    known = duplicates.digests(splits["train"].images) if "train" in splits else np.empty(0, np.uint64)
    firsts = []
    for name, split in splits.items():
        wanted = known if name == "train" else duplicates.digests(split.images)
        rows = range(max(len(split.images), len(split.labels)))
        firsts.append(duplicates.first_among(known, wanted).reindex(rows))
    return firsts


def _rows(name: str, split: Split, ink_threshold: int) -> pd.DataFrame:
    parts = [_labels(split.labels), _pixels(split.images, ink_threshold)]
    length, paired = max(map(len, parts)), min(map(len, parts))
    holds = np.zeros(length, np.int8)
    holds[paired:] = 1 if len(split.images) > paired else 2
    frame = pd.DataFrame(
        {
            "split": _same(name, length, SPLITS),
            "index": np.arange(length, dtype=np.uint32),
            "holds": pd.Categorical.from_codes(holds, pd.Index(_HOLDS)),
        }
    )
    return pd.concat([frame, *parts], axis=1)


def _same(value: Any, rows: int, values: Sequence[Any] = ()) -> pd.Categorical:
    """One of ``values`` in every row."""
    values = values or [value]
    return pd.Categorical.from_codes(np.full(rows, values.index(value), np.int8), pd.Index(values))


def _labels(labels: Array) -> pd.DataFrame:
    whole = labels.dtype.kind in "iu"
    # one-hot or otherwise nested labels are told by their type; a column can only hold the first of each
    first = labels.reshape(len(labels), -1)[:, 0] if labels.ndim > 1 else labels
    return pd.DataFrame(
        {
            "label": pd.Series(pd.array(first) if whole else first),
            "label_type": _same(" x ".join(map(str, (labels.dtype, *labels.shape[1:]))), len(labels)),
        }
    )


def _pixels(images: Array, ink_threshold: int) -> pd.DataFrame:
    count = len(images)
    low, high, ink = np.empty(count, images.dtype), np.empty(count, images.dtype), np.empty(count)
    for rows in chunks(count):
        flat = images[rows].reshape(-1, math.prod(images.shape[1:]))  # (N, pixels)
        low[rows], high[rows] = flat.min(axis=1), flat.max(axis=1)
        ink[rows] = (flat > ink_threshold).mean(axis=1)
    sides = zip(("height", "width"), images.shape[1:], strict=False)
    return pd.DataFrame(
        {
            "shape": _same("x".join(map(str, images.shape[1:])), count),
            **{name: _same(side, count) for name, side in sides},
            "dtype": _same(str(images.dtype), count),
            "min": low,
            "max": high,
            "ink": ink,
            "ink_bin": pd.Categorical.from_codes(np.digitize(ink, _INK_EDGES), pd.Index(INK_BINS)),
        }
    )
