"""Summarize the answers of a model on corrupted images."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lenet5.images.corruptions import scoring
from lenet5.images.corruptions.scoring import Answers
from lenet5.model import metrics, onnx_session
from lenet5.stages.evaluate.params import Robustness

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def score(
    session: "InferenceSession", images: NDArray[np.uint8], labels: NDArray[np.uint8], params: Robustness
) -> Answers:
    """Corrupt images as the parameters say, and score them with ONNX Runtime.

    Args:
        session: the model.
        images: every image of the split, uint8 (N, H, W).
        labels: uint8 (N,).
        params: the corruptions, their severities, the number of images and the seed.
    """
    return scoring.score(partial(onnx_session.probabilities, session), images, labels, params)


def table(answers: Answers) -> pd.DataFrame:
    """Return one row for each corruption, severity and image, in this order.

    Returns:
        ``corruption`` (str), ``severity``, ``index`` (position of the image in its split), ``label``,
        ``predicted``, ``confidence`` (float32, 0 to 1).
    """
    return pd.DataFrame(answers.columns)


def summary(answers: Answers) -> pd.DataFrame:
    """Return the accuracy on each corruption and severity.

    Returns:
        One row for each corruption and severity: ``corruption``, ``severity``, ``images``, ``accuracy``,
        ``low`` and ``high`` (Wilson's interval of 95 % confidence), and ``retained``: accuracy / accuracy on
        the same images without corruption.
    """
    scores = table(answers)
    correct = scores["label"] == scores["predicted"]
    groups = correct.groupby([scores["corruption"], scores["severity"]], sort=False)
    rows = groups.agg(images="size", accuracy="mean").reset_index()
    intervals = [
        metrics.wilson(accuracy, images)
        for accuracy, images in zip(rows["accuracy"].tolist(), rows["images"].tolist(), strict=True)
    ]
    low, high = zip(*intervals, strict=True)
    return rows.assign(low=low, high=high, retained=rows["accuracy"] * _retained(answers))


def summarize(answers: Answers) -> dict[str, Any]:
    """Return the metrics of a model by the names of their fields in the results of ``evaluate``."""
    accuracies = metrics.corruption_accuracies(table(answers))
    return {
        "corruption_accuracy": {str(name): float(accuracy) for name, accuracy in accuracies.items()},
        "mean_corruption_accuracy": float(accuracies.mean()),
        "retained_accuracy": float(accuracies.mean()) * _retained(answers),
        "corrupted_images": answers.corrupted_images,
    }


def _retained(answers: Answers) -> float:
    """Return the factor from an accuracy to the retained one; a model without a correct answer retains 0."""
    return 1 / answers.clean_accuracy if answers.clean_accuracy else 0.0
