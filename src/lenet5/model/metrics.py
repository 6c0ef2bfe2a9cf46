"""Compute metrics from the predictions of a model."""

import math
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_PROBABILITY = re.compile(r"p\d+")
CONFIDENCE = 0.95
"""Confidence of the two-sided intervals of an evaluation."""
_DRAWS = 2000


def probabilities(model: Any, images: NDArray[np.uint8], batch_size: int = 1000) -> NDArray[np.float32]:
    """Score all images with Keras, including the last partial batch.

    Args:
        model: a Keras model that takes raw pixels.
        images: uint8 (N, H, W), or (N, H, W, 3) for RGB.
        batch_size: images in one call.

    Returns:
        float32 (N, classes).
    """
    batches = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(np.asarray(images[i : i + batch_size])) for i in batches])


def predictions(labels: NDArray[np.integer], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Return the prediction table: one row for each image, in stored order.

    Args:
        labels: integers (N,), 0 to C - 1.
        probabilities: float32 (N, C), each row sums to 1.

    Returns:
        A frame with these columns:

        - ``index``: position of the image in its split, from 0.
        - ``label``: position of the class in the names of the classes.
        - ``predicted``: position of the class with the highest probability; of equal ones, the lowest.
        - ``confidence``: the highest probability.
        - ``p0`` to ``p{C - 1}``: the probabilities; :func:`probability_columns` names them.
    """
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": labels.astype(np.int64),
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
    )
    columns = [f"p{position}" for position in range(probabilities.shape[1])]
    return pd.concat([table, pd.DataFrame(probabilities, columns=columns)], axis=1)


def probability_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a prediction table that hold probabilities, in the order of the classes."""
    return [str(name) for name in table.columns if _PROBABILITY.fullmatch(str(name))]


def by_class(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return precision, recall and F1 of each class.

    Args:
        table: predictions, with the columns ``label`` and ``predicted``.
        classes: the names of the classes.

    Returns:
        One row for each class: ``class`` (its name), ``precision``, ``recall``, ``f1`` (0 to 1), ``images``.
        A class without images has the recall 0.
    """
    from sklearn.metrics import precision_recall_fscore_support  # the import is slow, and few callers need it

    precision, recall, f1, images = precision_recall_fscore_support(
        table["label"], table["predicted"], labels=list(range(len(classes))), zero_division=0
    )
    return pd.DataFrame(
        {"class": list(classes), "precision": precision, "recall": recall, "f1": f1, "images": images}
    )


def summarize(table: pd.DataFrame, bins: int) -> dict[str, float]:
    """Return the metrics of a model by the names of their fields in the results of ``evaluate``.

    Args:
        table: predictions, with all columns of :func:`predictions`.
        bins: number of confidence bins for the calibration error.
    """
    from sklearn.metrics import log_loss

    columns = probability_columns(table)
    reliability = calibration(table, bins)
    low, high = calibration_interval(reliability)
    return {
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "loss": float(
            log_loss(table["label"], _normalized(table[columns]), labels=list(range(len(columns))))
        ),
        "worst_class_recall": float(by_class(table, columns)["recall"].min()),
        "calibration_error": calibration_error(reliability),
        "calibration_error_low": low,
        "calibration_error_high": high,
    }


def corruption_accuracies(answers: pd.DataFrame) -> "pd.Series[float]":
    """Return the accuracy on each corruption, over all its severities, by name in the order of the rows.

    Args:
        answers: one row for each corruption, severity and image: ``corruption``, ``label``, ``predicted``.
    """
    correct = (answers["label"] == answers["predicted"]).astype(float)
    return correct.groupby(answers["corruption"], sort=False).mean()


def wilson(accuracy: float, images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson, 1927), without continuity correction.

    Args:
        accuracy: correct images / images, 0 to 1.
        images: number of images, at least 1.
        confidence: of the two-sided interval, between 0 and 1.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = accuracy + z**2 / (2 * images)
    half = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z**2 / images
    # rounding must not put the accuracy outside of its interval where it is 0 or 1
    return max(0.0, min(accuracy, (centre - half) / scale)), min(1.0, max(accuracy, (centre + half) / scale))


def calibration(table: pd.DataFrame, bins: int) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of equal width: the data of a reliability diagram.

    Bin k of n holds the images whose confidence is at least k / n and below (k + 1) / n. The last one also
    holds those with confidence 1.

    Args:
        table: predictions, with the columns ``label``, ``predicted`` and ``confidence``.
        bins: number of bins from 0 to 1.

    Returns:
        One row for each bin that holds images: ``bin`` (from 0), ``confidence`` and ``accuracy`` (means over
        the bin, 0 to 1), ``images``.
    """
    correct = table["label"] == table["predicted"]
    number = (table["confidence"] * bins).astype(int).clip(upper=bins - 1)
    values = pd.DataFrame(
        {"confidence": table["confidence"].astype(float), "accuracy": correct.astype(float)}
    )
    return values.groupby(number.rename("bin")).mean().assign(images=number.value_counts()).reset_index()


def calibration_error(bins: pd.DataFrame) -> float:
    """Return the expected calibration error (Guo et al., 2017, equation 3), 0 to 1.

    It is the mean of |accuracy - confidence| over the bins, weighted by their images. Chance alone makes it
    positive: a perfectly calibrated model has about 0.003 on 10,000 images.

    Args:
        bins: as :func:`calibration` returns them.
    """
    gap = (bins["confidence"] - bins["accuracy"]).abs()
    return float((gap * bins["images"]).sum() / bins["images"].sum())


def calibration_interval(bins: pd.DataFrame, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return an approximate confidence interval for the expected calibration error.

    A bootstrap interval would be too high, because chance adds to a sum of absolute values twice: once in the
    images and once in the resamples. So this function inverts a test. It assumes that the true gaps of the
    bins are t times the seen ones, adds binomial noise to them, and keeps each t with which the seen error is
    not among the most extreme values. Only the bins are needed, so the cost does not depend on the images.

    Args:
        bins: as :func:`calibration` returns them.
        confidence: of the two-sided interval, between 0 and 1.

    Returns:
        The lower and the upper end, 0 to 1. The lower end of a well calibrated model is 0.
    """
    images = bins["images"].to_numpy(np.float64)
    gaps = (bins["accuracy"] - bins["confidence"]).to_numpy() * images
    correct = bins["accuracy"].to_numpy() * images
    rate = (correct + 1) / (images + 2)  # Laplace's rule: a bin without a mistake has noise as well
    random = np.random.default_rng(0)
    noise = random.standard_normal((_DRAWS, len(bins))) * np.sqrt(images * rate * (1 - rate))
    seen = np.abs(gaps).sum()

    def multiple(share: float) -> float:
        """Return the t with which this share of the errors is below the seen one; 0 if there is none."""
        low, high = 0.0, 4.0
        for _ in range(30):
            middle = (low + high) / 2
            below = np.quantile(np.abs(middle * gaps + noise).sum(axis=1), share) < seen
            low, high = (middle, high) if below else (low, middle)
        return low if low > 1e-6 else 0.0

    error = seen / images.sum()
    tail = (1 - confidence) / 2
    # an error that is smaller than chance makes it has no such t
    return float(multiple(1 - tail) * error), float(min(1.0, max(1.0, multiple(tail)) * error))


def _normalized(table: pd.DataFrame) -> NDArray[np.float64]:
    # float32 rows sum to 1 within 1e-7 only, and scikit-learn warns about the difference
    probabilities = table.to_numpy(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)
