"""Compute metrics from the predictions of a model."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import CLASSES

PROBABILITIES = [f"p{digit}" for digit in range(CLASSES)]
"""Columns of a prediction table: ``p0`` to ``p9``."""


def probabilities(model: Any, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Score all images, including the last partial batch.

    Args:
        model: a Keras model that takes raw pixels.
        images: uint8 (N, 28, 28).
        batch_size: images in one call.

    Returns:
        float32 (N, 10).
    """
    batches = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(np.asarray(images[i : i + batch_size])) for i in batches])


def predictions(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Return the prediction table: one row for each image, in stored order.

    Args:
        labels: uint8 (N,), 0 to 9.
        probabilities: float32 (N, 10), each row sums to 1.

    Returns:
        A frame with these columns:

        - ``index``: position of the image in its split, from 0.
        - ``label``: the digit.
        - ``predicted``: the digit with the highest probability; of equal ones, the lowest digit.
        - ``confidence``: the highest probability.
        - ``p0`` to ``p9``: the probabilities.
    """
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": labels.astype(np.int64),
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
    )
    return pd.concat([table, pd.DataFrame(probabilities, columns=PROBABILITIES)], axis=1)


def by_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return precision, recall and F1 of each class.

    Args:
        table: predictions, with the columns ``label`` and ``predicted``.

    Returns:
        One row for each digit: ``digit``, ``precision``, ``recall``, ``f1`` (0 to 1), ``images``. A digit
        without images has the recall 0.
    """
    from sklearn.metrics import precision_recall_fscore_support  # the import is slow, and few callers need it

    digits = list(range(CLASSES))
    precision, recall, f1, images = precision_recall_fscore_support(
        table["label"], table["predicted"], labels=digits, zero_division=0
    )
    return pd.DataFrame(
        {"digit": digits, "precision": precision, "recall": recall, "f1": f1, "images": images}
    )


def summarize(table: pd.DataFrame, bins: int) -> dict[str, float]:
    """Return the metrics of a model by the names of their fields in ``Evaluation``.

    Args:
        table: predictions, with the columns ``label``, ``predicted``, ``confidence`` and ``p0`` to ``p9``.
        bins: number of confidence bins for the calibration error.
    """
    from sklearn.metrics import log_loss

    return {
        "accuracy": float((table["label"] == table["predicted"]).mean()),
        "loss": float(log_loss(table["label"], _normalized(table), labels=list(range(CLASSES)))),
        "worst_class_recall": float(by_class(table)["recall"].min()),
        "calibration_error": _calibration_error(calibration(table, bins)),
    }


def calibration(table: pd.DataFrame, bins: int) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of equal width.

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


def _calibration_error(bins: pd.DataFrame) -> float:
    gap = (bins["confidence"] - bins["accuracy"]).abs()
    return float((gap * bins["images"]).sum() / bins["images"].sum())


def _normalized(table: pd.DataFrame) -> NDArray[np.float64]:
    # float32 rows sum to 1 within 1e-7 only, and scikit-learn warns about the difference
    probabilities = table[PROBABILITIES].to_numpy(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)
