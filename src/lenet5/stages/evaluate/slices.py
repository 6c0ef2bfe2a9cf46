"""Divide the test images into slices, and score each of them.

A slice depends on the data alone: the test images, their labels and the training images. So two models that
were evaluated on the same data are compared on the same slices.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import Array
from lenet5.images import measures, neighbours
from lenet5.model.metrics import wilson

TAIL = 0.1
"""Largest share of the images in the low and in the high bin of a measure."""
HARDEST = 0.05
"""Largest share of the images in the bin ``hardest``."""

BINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "stroke_thickness": ("thin", "normal", "thick"),
        "size": ("small", "normal", "large"),
        "slant": ("left", "normal", "right"),
        "foreground": ("little", "normal", "much"),
        "train_distance": ("near", "normal", "far"),
        "hardest": ("other", "hardest"),
    }
)
"""The bins of each slice except ``class``, in order; those of a measure from low to high."""


def all_bins(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the bins of each slice, in order; those of ``class`` are the names of the classes."""
    return {"class": tuple(classes), **BINS}


def membership(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    train_images: Array,
    train_labels: NDArray[np.integer],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Find the bins of each test image.

    The low bin of a measure holds the lowest tenth of the images, the high bin the highest tenth. Images with
    equal values are in one bin: where the cut would part them, all of them are in the middle one.

    Args:
        images: the test images, uint8 (N, H, W), or (N, H, W, 3) for RGB.
        labels: integers (N,), 0 to C - 1.
        train_images: uint8 (M, ...), all images that a training could see; a memory map of any size.
        train_labels: integers (M,).
        classes: the names of the C classes.

    Returns:
        A frame with one row for each image and these columns. All but the first hold the name of a bin (str).

        - ``index``: position of the image in the test split.
        - ``class``: the name of the class.
        - ``stroke_thickness``, ``size``, ``slant``, ``foreground``: :func:`lenet5.images.measures.measure`.
        - ``train_distance``: the distance to the nearest training image of any class
          (:func:`lenet5.images.neighbours.nearest_by_class`).
        - ``hardest``: ``hardest`` for the twentieth of the images with the highest :func:`hardness`.
    """
    distances = neighbours.nearest_by_class(images, train_images, train_labels, len(classes))
    table = pd.DataFrame({"index": np.arange(len(labels)), "class": np.array(classes, object)[labels]})
    for name, values in measures.measure(images).items():
        table[name] = three_bins(values, BINS[name])
    table["train_distance"] = three_bins(distances.min(axis=1).astype(np.float64), BINS["train_distance"])
    other, hardest = BINS["hardest"]
    table["hardest"] = np.where(_highest(hardness(distances, labels), HARDEST), hardest, other)
    return table


def hardness(distances: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return how close each image is to another class, compared with its own, without asking a model.

    With the distance d to the nearest training image of the own class, and e to that of the other classes,
    this is d / (d + e): 0 for a copy of a training image, above 0.5 where the nearest one has another label.

    Args:
        distances: (N, C), to the nearest training image of each class; infinite for a class without images.
        labels: (N,).

    Returns:
        float64 (N,), 0 to 1; 0.5 where both distances are 0 or infinite.
    """
    count = len(labels)
    others = distances.astype(np.float64)
    own = others[np.arange(count), labels].copy()
    others[np.arange(count), labels] = np.inf
    other = others.min(axis=1, initial=np.inf)
    share = np.full(count, 0.5)
    finite = np.isfinite(own) & np.isfinite(other)
    np.divide(own, own + other, out=share, where=finite & (own + other > 0))
    share[np.isinf(own) & np.isfinite(other)] = 1
    share[np.isfinite(own) & np.isinf(other)] = 0
    return share


def accuracies(bins: pd.DataFrame, predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the accuracy on each bin of each slice, with Wilson's interval of 95 % confidence.

    Args:
        bins: of :func:`membership`.
        predictions: the rows of the same images: ``index``, ``label``, ``predicted``.
        classes: the names of the classes, in the order of the result.

    Returns:
        A frame with one row for each bin that holds images: ``slice``, ``bin``, ``images``, and ``accuracy``,
        ``low``, ``high`` (0 to 1).
    """
    correct = (predictions["label"] == predictions["predicted"]).set_axis(predictions["index"])
    rows = []
    for name, names in all_bins(classes).items():
        members_of = bins["index"].groupby(bins[name]).groups
        for bin_name in names:
            if bin_name in members_of:
                members = bins.loc[members_of[bin_name], "index"]
                accuracy = float(correct.loc[members].mean())
                rows.append((name, bin_name, len(members), accuracy, *wilson(accuracy, len(members))))
    return pd.DataFrame(rows, columns=["slice", "bin", "images", "accuracy", "low", "high"])


def confused_pairs(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count the mistakes of each kind.

    Args:
        predictions: one row for each image: ``label``, ``predicted``.

    Returns:
        A frame with one row for each pair that occurs: ``label``, ``predicted``, ``images``. The most
        frequent one is first; of equal counts, the first classes.
    """
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    counts = wrong.groupby(["label", "predicted"]).size().rename("images").reset_index()
    return counts.sort_values(
        ["images", "label", "predicted"], ascending=[False, True, True], ignore_index=True
    )


def three_bins(values: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.str_]:
    """Return the name of the bin of each value, (N,): low, middle or high.

    Args:
        values: (N,).
        names: of the three bins.
    """
    low, middle, high = names
    return np.where(_highest(-values, TAIL), low, np.where(_highest(values, TAIL), high, middle))


def _highest(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return which values belong to the highest ``share``, bool (N,); never a part of equal values."""
    most = int(share * len(values))
    if not most:
        return np.zeros(len(values), bool)
    below = np.partition(values, -most - 1)[-most - 1]  # the highest value that does not belong to them
    return values > below
