"""Metrics equal those computed by hand and those of scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from lenet5.core.dataset import DIGITS
from lenet5.core.results import Evaluation, EvaluationDetails
from lenet5.model import metrics

PROBABILITIES = [f"p{digit}" for digit in range(10)]


def answers(*rows: tuple[int, int, float]) -> pd.DataFrame:
    """Return predictions from (label, predicted digit, its probability); the other digits share the rest."""
    labels = np.array([label for label, _, _ in rows], np.uint8)
    probabilities = np.empty((len(rows), 10), np.float32)
    for index, (_, predicted, probability) in enumerate(rows):
        probabilities[index] = (1 - probability) / 9
        probabilities[index, predicted] = probability
    return metrics.predictions(labels, probabilities)


@pytest.fixture
def random() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Random labels, probabilities that correlate with them, and the prediction table."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 10, 1003).astype(np.uint8)
    scores = rng.random((1003, 10)) + 0.5 * np.eye(10)[labels]
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return labels, probabilities, metrics.predictions(labels, probabilities)


def evaluate(frame: pd.DataFrame, bins: int = 10) -> SimpleNamespace:
    summary = metrics.summarize(frame, bins)
    assert summary.keys() <= Evaluation.model_fields.keys() | EvaluationDetails.model_fields.keys()
    return SimpleNamespace(images=len(frame), **summary)


def test_table_has_one_row_for_each_image_with_all_probabilities(
    random: tuple[np.ndarray, np.ndarray, pd.DataFrame],
) -> None:
    labels, probabilities, frame = random
    assert frame.columns.tolist() == ["index", "label", "predicted", "confidence", *PROBABILITIES]
    np.testing.assert_array_equal(frame["index"], np.arange(1003))
    np.testing.assert_array_equal(frame["label"], labels)
    np.testing.assert_array_equal(frame["predicted"], probabilities.argmax(axis=1))
    np.testing.assert_array_equal(frame["confidence"], probabilities.max(axis=1))
    np.testing.assert_array_equal(frame[PROBABILITIES], probabilities)


def test_metrics_by_hand() -> None:
    frame = answers((0, 0, 0.5), (0, 1, 0.6), (1, 1, 0.8), *[(digit, digit, 1.0) for digit in range(2, 10)])
    made = evaluate(frame)
    assert made.images == 11
    assert made.accuracy == pytest.approx(10 / 11)
    assert made.worst_class_recall == 0.5  # one of two zeros
    assert made.loss == pytest.approx(-(math.log(0.5) + math.log(0.4 / 9) + math.log(0.8)) / 11, rel=1e-5)
    table = metrics.by_class(frame, DIGITS.classes).set_index("class")
    assert table.loc["0"].to_dict() == pytest.approx(
        {"precision": 1, "recall": 0.5, "f1": 2 / 3, "images": 2}
    )
    assert table.loc["1"].to_dict() == pytest.approx(
        {"precision": 0.5, "recall": 1, "f1": 2 / 3, "images": 1}
    )


def test_metrics_equal_those_of_scikit_learn(random: tuple[np.ndarray, np.ndarray, pd.DataFrame]) -> None:
    labels, probabilities, frame = random
    predicted = probabilities.argmax(axis=1)
    made, table = evaluate(frame), metrics.by_class(frame, DIGITS.classes)
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert made.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    assert made.loss == pytest.approx(reference.log_loss(labels, exact))
    recalls = reference.recall_score(labels, predicted, average=None)
    assert made.worst_class_recall == pytest.approx(min(recalls))
    np.testing.assert_allclose(table["recall"], recalls)
    np.testing.assert_allclose(table["precision"], reference.precision_score(labels, predicted, average=None))
    np.testing.assert_allclose(table["f1"], reference.f1_score(labels, predicted, average=None))
    np.testing.assert_array_equal(table["images"], np.bincount(labels))


def test_calibration_error_by_hand() -> None:
    """At 0.95, 3 of 3 are right; at 0.65, 0 of 1: the gaps 0.05 and 0.65 are weighted by the images."""
    frame = answers((1, 1, 0.95), (2, 2, 0.95), (6, 6, 0.95), (4, 5, 0.65))
    assert evaluate(frame).calibration_error == pytest.approx(3 / 4 * 0.05 + 1 / 4 * 0.65, abs=1e-6)
    table = metrics.calibration(frame, bins=10)
    assert table["bin"].tolist() == [6, 9]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.95])
    assert table["accuracy"].tolist() == [0, 1]
    assert table["images"].tolist() == [1, 3]


def test_calibration_error_depends_on_the_bins() -> None:
    frame = answers((1, 1, 0.95), (2, 2, 0.95), (3, 3, 0.65), (4, 5, 0.65))
    # one bin: mean confidence 0.8, accuracy 0.75
    assert evaluate(frame, bins=1).calibration_error == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_confidence_of_1_is_in_the_last_bin(bins: int) -> None:
    table = metrics.calibration(answers((1, 1, 1.0), (2, 3, 1.0)), bins)
    assert table["bin"].tolist() == [bins - 1]
    assert table["accuracy"].tolist() == [0.5]


def test_every_image_is_in_a_bin(random: tuple[np.ndarray, np.ndarray, pd.DataFrame]) -> None:
    assert metrics.calibration(random[2], bins=15)["images"].sum() == 1003


def test_class_without_images_has_a_recall_of_0() -> None:
    frame = answers(*[(digit, digit, 0.9) for digit in range(9)])
    assert evaluate(frame).worst_class_recall == 0
    assert metrics.by_class(frame, DIGITS.classes).set_index("class").loc["9"].to_dict() == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "images": 0,
    }
    assert evaluate(frame).accuracy == 1


def test_confident_mistake_has_a_large_finite_loss() -> None:
    assert 20 < evaluate(answers((1, 2, 1.0))).loss < 50


def test_of_equal_probabilities_the_lowest_digit_wins() -> None:
    tied = metrics.predictions(np.array([4], np.uint8), np.full((1, 10), 0.1, np.float32))
    assert tied["predicted"].tolist() == [0]


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (10, 10), (1, 1), (37, 50), (9908, 10_000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilsons_interval_equals_that_of_scipy(correct: int, images: int, confidence: float) -> None:
    expected = binomtest(correct, images).proportion_ci(confidence, method="wilson")
    assert metrics.wilson(correct / images, images, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_wilsons_interval_holds_an_accuracy_of_0_and_of_1(accuracy: float) -> None:
    for images in range(1, 2000):
        low, high = metrics.wilson(accuracy, images)
        assert 0 <= low <= accuracy <= high <= 1, images


def sample(rng: np.random.Generator, images: int, overconfidence: float) -> pd.DataFrame:
    """Return the bins of random answers whose confidence exceeds the chance of being right by this much."""
    confidence = 1 - 0.3 * rng.random(images) ** 4
    correct = rng.random(images) < confidence - overconfidence
    frame = pd.DataFrame({"label": 0, "predicted": np.where(correct, 0, 1), "confidence": confidence})
    return metrics.calibration(frame, 15)


@pytest.mark.parametrize(("overconfidence", "images"), [(0.0, 2000), (0.02, 2000), (0.1, 500)])
def test_interval_of_the_calibration_error_holds_the_true_error(overconfidence: float, images: int) -> None:
    """In 20 samples, an interval of 95 % misses it once on average."""
    rng = np.random.default_rng(7)
    intervals = [metrics.calibration_interval(sample(rng, images, overconfidence)) for _ in range(20)]
    assert sum(low <= overconfidence <= high for low, high in intervals) >= 17
    assert all(low < high for low, high in intervals)
    # of no use if it always held everything
    assert np.median([high for _, high in intervals]) < 2 * overconfidence + 0.02


def test_interval_is_about_the_seen_error_and_always_the_same() -> None:
    bins = sample(np.random.default_rng(3), 5000, 0.05)
    low, high = metrics.calibration_interval(bins)
    assert low < metrics.calibration_error(bins) < high
    assert metrics.calibration_interval(bins) == (low, high)
    wide_low, wide_high = metrics.calibration_interval(bins, confidence=0.99)
    assert wide_low < low < high < wide_high
