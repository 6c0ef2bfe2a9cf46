"""Rank the images whose label is likely to be wrong.

The score is the normalized margin of confident learning: the probability of the label minus the highest
other probability (Northcutt et al., 2021, "Confident learning: estimating uncertainty in dataset labels").
cleanlab's ``normalized_margin`` is the same score, mapped from -1 … 1 to 0 … 1; one line of code needs no
dependency.

The model was not fitted to the labels of test and validation images. Train images are scored by classifiers
that were fitted without them (:mod:`lenet5.stages.evaluate.out_of_fold`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Array, Split, chunks
from lenet5.core.errors import DataError

COLUMNS = ("split", "index", "label", "likely", "margin")
MOST = 100
"""Largest number of images of each split in the ranking: what a person looks at in some minutes."""


def rank(
    split: str, labels: NDArray[np.integer], probabilities: NDArray[np.floating], first: int = 0
) -> pd.DataFrame:
    """Return the images of one split, or of a part of it, whose label the model contradicts most.

    Args:
        split: name of the split.
        labels: (N,), 0 to C - 1.
        probabilities: (N, C).
        first: position of the first of these images in the split.

    Returns:
        A frame with at most ``MOST`` rows, the lowest margin first: images for which another class is more
        likely than the label. Its columns:

        - ``split``: ``split``.
        - ``index``: position of the image in the split.
        - ``label``: position of the class in the names of the classes.
        - ``likely``: that of the most likely other class; of equal ones, the lowest.
        - ``margin``: -1 to 0, rounded to six digits.
    """
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    table = pd.DataFrame(
        {
            "split": split,
            "index": rows + first,
            "label": labels.astype(np.int64),
            "likely": others.argmax(axis=1),
            "margin": (own - others.max(axis=1)).round(6),
        },
        columns=list(COLUMNS),
    )
    return lowest(table[table["margin"] < 0])


def lowest(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the ``MOST`` lowest margins of each split; of equal margins, the order of split and index decides.

    Args:
        table: rows of :func:`rank`, in any order.
    """
    ordered = table.sort_values(["margin", "split", "index"], ignore_index=True)
    return ordered[ordered.groupby("split").cumcount() < MOST].reset_index(drop=True)


def named(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the ranking with the names of the classes in ``label`` and ``likely``."""
    names = np.array(classes, object)
    return table.assign(label=names[table["label"]], likely=names[table["likely"]])


def positions(images: Array, labels: NDArray[np.integer], split: Split) -> NDArray[np.int64]:
    """Return where images are in a raw split, (R,).

    Args:
        images: uint8 (R, H, W) or (R, H, W, 3); each of them is in the split, with its label.
        labels: (R,).
        split: the images, uint8 (N, ...), a memory map of any size, and labels (N,).

    Raises:
        DataError: an image is not in the split.
    """
    # few images have an equal sum of pixels, so few of them are compared
    axes = tuple(range(1, images.ndim))
    wanted = images.sum(axis=axes, dtype=np.int64)
    found = np.full(len(images), -1, np.int64)
    for rows in chunks(len(split.labels)):
        part = split.images[rows]
        sums = part.sum(axis=axes, dtype=np.int64)
        for row in np.flatnonzero(found < 0):
            candidates = np.flatnonzero((sums == wanted[row]) & (split.labels[rows] == labels[row]))
            equal = candidates[(part[candidates] == images[row]).all(axis=axes)]
            if len(equal):
                found[row] = equal[0] + rows.start
    if (found < 0).any():
        raise DataError(
            "The processed data was not made from this raw data.",
            expected="each processed image in the raw train split",
            found=f"{(found < 0).sum()} images that are not there",
            fix="write it again: `dvc repro --force preprocess`",
        )
    return found
