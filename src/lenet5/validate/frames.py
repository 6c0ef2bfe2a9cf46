"""Raw images and labels as tables, so that every check is a statement about a column."""

import hashlib
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from lenet5.dataset import CLASSES, Array, Split

SPLITS = ("train", "test")

PAIRED = "image and label"

# Shares of inked pixels. Two hundredths wide where MNIST's digits are; the ends take everything beyond,
# blank and full images too, so that no image is outside the bins.
_INK_EDGES = np.arange(6, 42, 2) / 100
_INK_LIMITS = [0.0, *_INK_EDGES.tolist(), 1.0]
INK_BINS = tuple(f"{low:.2f}-{high:.2f}" for low, high in pairwise(_INK_LIMITS))


def images(splits: Mapping[str, Split], ink_threshold: int) -> pd.DataFrame:
    """One row an image. Where a split holds more images than labels (or fewer), what is missing is null.

    Columns:
        split, index: which image; ``index`` counts from 0 in each split.
        holds: ``PAIRED``, ``image only`` or ``label only``.
        label, label_type: the class and the NumPy type it was stored in.
        shape, height, width, dtype: of one image, as ``28x28``, 28, 28 and ``uint8``.
        min, max, mean: of its pixels, in raw units.
        ink, ink_bin: share of pixels above ``ink_threshold``, and its bin of ``INK_BINS``.
        sha256: of its pixels.
        duplicate_of: for train, index of the first identical image, where that is an earlier one.
        also_in_train: for test, index of the first identical image of train.
    """
    frame = pd.concat(
        [_rows(name, splits[name], ink_threshold) for name in SPLITS if name in splits], ignore_index=True
    )
    train = frame["split"] == "train"
    known = frame[train & frame["sha256"].notna()].drop_duplicates("sha256")
    first = frame["sha256"].map(known.set_index("sha256")["index"]).astype("Int64")
    frame["duplicate_of"] = first.where(train & (first != frame["index"]))
    frame["also_in_train"] = first.where(~train)
    return frame


def classes(images: pd.DataFrame) -> pd.DataFrame:
    """One row a split and class: split, label, count, and share (0 to 1) of the split's labels."""
    every = pd.MultiIndex.from_product([SPLITS, range(CLASSES)], names=["split", "label"])
    counts = images.groupby(["split", "label"]).size().reindex(every, fill_value=0)
    totals = images.groupby("split")["label"].count().reindex(list(SPLITS), fill_value=0).clip(lower=1)
    frame = counts.rename("count").reset_index()
    frame["share"] = frame["count"] / frame["split"].map(totals)
    return frame


def _rows(name: str, split: Split, ink_threshold: int) -> pd.DataFrame:
    parts = [_labels(split.labels), _pixels(split.images, ink_threshold)]
    index = np.arange(max(len(part) for part in parts))
    frame = pd.DataFrame({"split": name, "index": index})
    lonely = "image only" if len(split.images) > len(split.labels) else "label only"
    frame["holds"] = np.where(index < min(len(part) for part in parts), PAIRED, lonely)
    return pd.concat([frame, *parts], axis=1)


def _labels(labels: Array) -> pd.DataFrame:
    whole = labels.dtype.kind in "iu"
    # one-hot or otherwise nested labels are told by their type; a column can only hold the first of each
    first = labels.reshape(len(labels), -1)[:, 0] if labels.ndim > 1 else labels
    return pd.DataFrame(
        {
            "label": pd.Series(first, dtype="Int64" if whole else None),
            "label_type": " x ".join(map(str, (labels.dtype, *labels.shape[1:]))),
        }
    )


def _pixels(images: Array, ink_threshold: int) -> pd.DataFrame:
    images = np.ascontiguousarray(images)  # out of the memory map, once
    flat = images.reshape(len(images), int(np.prod(images.shape[1:])))  # (N, pixels)
    ink = (flat > ink_threshold).mean(axis=1)
    return pd.DataFrame(
        {
            "shape": "x".join(map(str, images.shape[1:])),
            **dict(zip(("height", "width"), images.shape[1:], strict=False)),
            "dtype": str(images.dtype),
            "min": flat.min(axis=1),
            "max": flat.max(axis=1),
            "mean": flat.mean(axis=1),
            "ink": ink,
            "ink_bin": np.array(INK_BINS)[np.digitize(ink, _INK_EDGES)],
            "sha256": [hashlib.sha256(pixels.data).hexdigest() for pixels in flat],
        }
    )
