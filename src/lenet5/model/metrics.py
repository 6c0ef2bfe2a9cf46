"""From predictions to figures."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.core.dataset import CLASSES

PROBABILITIES = [f"p{digit}" for digit in range(CLASSES)]


def probabilities(model: Any, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Score every image (N, 28, 28), the last, partial batch included: (N, 10)."""
    batches = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(np.asarray(images[i : i + batch_size])) for i in batches])


def predictions(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """One row an image: its index and label, the predicted digit, its confidence, all ten probabilities.

    Args:
        labels: (N,), 0 to 9.
        probabilities: (N, 10), each row summing to 1.
    """
    frame = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": labels.astype(np.int64),
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
    )
    return pd.concat([frame, pd.DataFrame(probabilities, columns=PROBABILITIES)], axis=1)


def by_class(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a digit: precision, recall, F1, images; a digit without images has a recall of 0."""
    from sklearn.metrics import precision_recall_fscore_support  # slow to import, and few need it

    digits = list(range(CLASSES))
    precision, recall, f1, images = precision_recall_fscore_support(
        frame["label"], frame["predicted"], labels=digits, zero_division=0
    )
    return pd.DataFrame(
        {"digit": digits, "precision": precision, "recall": recall, "f1": f1, "images": images}
    )


def figures(frame: pd.DataFrame, bins: int) -> dict[str, float]:
    """The figures of one model from a table of :func:`predictions`, under their names in ``Evaluation``."""
    from sklearn.metrics import log_loss

    return {
        "accuracy": float((frame["label"] == frame["predicted"]).mean()),
        "loss": float(log_loss(frame["label"], _rows(frame), labels=list(range(CLASSES)))),
        "worst_class_recall": float(by_class(frame)["recall"].min()),
        "calibration_error": _calibration_error(calibration(frame, bins)),
    }


def calibration(frame: pd.DataFrame, bins: int) -> pd.DataFrame:
    """One row a bin of confidence that holds images: mean confidence, accuracy, images."""
    correct = frame["label"] == frame["predicted"]
    number = (frame["confidence"] * bins).astype(int).clip(upper=bins - 1)
    table = pd.DataFrame({"confidence": frame["confidence"].astype(float), "accuracy": correct.astype(float)})
    return table.groupby(number.rename("bin")).mean().assign(images=number.value_counts()).reset_index()


def _calibration_error(table: pd.DataFrame) -> float:
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["images"]).sum() / table["images"].sum())


def _rows(frame: pd.DataFrame) -> NDArray[np.float64]:
    # float32 rows sum to 1 only within 1e-7, which scikit-learn warns about
    probabilities = frame[PROBABILITIES].to_numpy(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)
