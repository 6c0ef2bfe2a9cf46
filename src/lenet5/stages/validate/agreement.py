"""Compare images and labels with the reference classifier."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import CHUNK, Array, Split, parts
from lenet5.stages.validate import chance
from lenet5.stages.validate.classifier import Classifier, Statistics, class_means, suspects
from lenet5.stages.validate.params import Validate


@dataclass(frozen=True)
class Comparison:
    """What the reference classifier says about some data."""

    images: pd.DataFrame
    """A row for each image, in the order of ``frames.images``, with three columns that are null where a row
    has no image, no label, or an unknown one: ``agrees``, whether the most likely class is the label;
    ``likely_label``, the class of an image whose label is suspect, null for all others; ``unlike``, whether
    the image is unlike the reference."""
    classes: pd.DataFrame
    """A row for each split and class: ``split``, ``label``; ``agreement``, the share of its images that agree
    (0 to 1), and ``mean_distance``, of its mean image (raw pixel units). Both are null for a class without
    images."""


def compare(
    splits: Mapping[str, Split],
    images: pd.DataFrame,
    classifier: Classifier,
    statistics: Statistics,
    false_alarm_rate: float,
) -> Comparison:
    """Compare the images of each split with the reference.

    Args:
        splits: raw splits by name.
        images: the table of ``frames.images``, with the columns ``split`` and ``label``.
        classifier: of the reference.
        statistics: what is usual in the reference.
        false_alarm_rate: how often chance alone may give a distance of any mean image.
    """
    rows, classes = [], []
    rate = false_alarm_rate / (len(splits) * len(classifier.labels))
    for name, table in images.groupby("split", observed=True, sort=False):
        split = splits[str(name)]
        is_comparable = split.images.shape[1:] == classifier.shape
        images_here = split.images if is_comparable else np.empty((0, *classifier.shape))
        paired = min(len(images_here), len(split.labels))
        codes = class_codes(table["label"].iloc[:paired], classifier.labels)
        scored = _scored(images_here, codes, classifier, statistics, rate)
        rows.append(scored.images.reindex(range(len(table))).set_axis(table.index))
        classes.append(scored.classes.assign(split=str(name)))
    return Comparison(pd.concat(rows).loc[images.index], pd.concat(classes, ignore_index=True))


@dataclass(frozen=True)
class Limits:
    """The largest numbers of images of one split that may be conspicuous."""

    suspect_labels: int
    unlike_images: int


def limits(images: int, params: Validate, statistics: Statistics) -> Limits:
    """Return the limits for a split: the usual share, what ``params`` allows in addition, and what chance
    explains."""

    def most(usual: float, more: float) -> int:
        return int(chance.most(usual + more, images, statistics.images, params.false_alarm_rate))

    return Limits(
        most(statistics.suspect_labels, params.max_suspect_labels),
        most(statistics.unlike_images, params.max_unlike_images),
    )


def loss(
    classes: pd.DataFrame, classifier: Classifier, statistics: Statistics, false_alarm_rate: float
) -> "pd.Series[float]":
    """Return how much the agreement of each class is surely below that of the reference.

    Args:
        classes: a row for each class: ``class``, ``count``, ``agreement``.
        classifier: of the reference.
        statistics: what is usual in the reference.
        false_alarm_rate: how often chance alone may give a loss in any of the rows.

    Returns:
        float64 (rows,): a share, 0 or more; NaN for a class without images.
    """
    counts = classes["count"].to_numpy(dtype=np.float64)
    fitted = dict(zip(classifier.names, map(float, classifier.counts), strict=True))
    images_of = np.array([fitted[name] for name in classes["class"]])
    lost = chance.share_loss(
        (classes["agreement"].to_numpy(dtype=np.float64) * counts).round(),
        counts,
        np.array([statistics.agreement[name] for name in classes["class"]]),
        images_of,
        false_alarm_rate / max(len(classes), 1),
    )
    return pd.Series(lost, classes.index)


def class_codes(labels: "pd.Series[int]", known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each label among the known ones, int64 (N,); -1 for an unknown label."""
    return pd.Index(known).get_indexer(pd.Index(labels.to_numpy(dtype=float, na_value=np.nan)))


def _scored(
    images: Array, codes: NDArray[np.int64], classifier: Classifier, statistics: Statistics, rate: float
) -> Comparison:
    """Compare the first images with their labels, given as codes (N,); -1 for an unknown label."""
    confidence = np.array([statistics.confidence[name] for name in classifier.names])
    tables = []
    for rows in _slices(images[: len(codes)], len(classifier.labels)):
        known = np.flatnonzero(codes[rows] >= 0) + rows.start
        code = codes[known]
        log_densities, rest = classifier.scores(images[known])
        suspect, likely = suspects(log_densities, code, confidence)
        part = pd.DataFrame(
            {
                "code": code.astype(np.int16),
                "agrees": pd.array(log_densities.argmax(axis=1) == code, "boolean"),
                "likely_label": pd.array(classifier.labels[likely], "UInt16"),
                "unlike": pd.array(statistics.is_unlike(log_densities, rest), "boolean"),
            },
            index=known.astype(np.int32),
        )
        part.loc[~suspect, "likely_label"] = pd.NA
        tables.append(part)
    table = pd.concat(tables)
    means, counts = class_means(images, codes, len(classifier.labels))
    classes = pd.DataFrame(
        {
            "label": classifier.labels,
            "agreement": table.groupby("code")["agrees"].mean().reindex(range(len(classifier.labels))),
            "mean_distance": classifier.mean_distances(means, counts, rate=rate),
        }
    )
    return Comparison(table.drop(columns="code"), classes)


def _slices(images: Array, classes: int) -> Iterator[slice]:
    """Return slices of images whose pixels and whose scores, one for each class, take little memory."""
    step = max(1, CHUNK * 100 // classes)
    for rows in parts(images):
        for start in range(rows.start, max(rows.stop, 1), step):
            yield slice(start, min(start + step, rows.stop))
