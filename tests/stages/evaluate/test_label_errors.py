"""A wrong label on an easy image ranks first; a right one is not in the ranking."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.core.errors import DataError
from lenet5.stages.evaluate import label_errors
from tests.conftest import Arrays


def answers(labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.float32]:
    """Probabilities of a model that finds each label the most likely class, with different confidence."""
    random = np.random.default_rng(seed)
    probabilities = random.random((len(labels), 10)) * 0.05
    probabilities[np.arange(len(labels)), labels] = 0.4 + 0.5 * random.random(len(labels))
    return (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


LABELS = np.arange(500) % 10


def test_planted_wrong_labels_rank_first() -> None:
    probabilities = answers(LABELS)
    confidence = probabilities.max(axis=1)
    wrong = LABELS.copy()
    easy, hard = int(confidence.argmax()), int(confidence.argmin())
    wrong[[easy, hard]] = (wrong[[easy, hard]] + 3) % 10
    table = label_errors.rank("test", wrong, probabilities)
    assert table["index"].tolist() == [easy, hard]
    assert table["label"].tolist() == wrong[[easy, hard]].tolist()
    assert table["likely"].tolist() == LABELS[[easy, hard]].tolist()
    assert table["margin"].iloc[0] < -0.5 < table["margin"].iloc[1] < 0


def test_labels_that_the_model_agrees_with_are_not_ranked() -> None:
    table = label_errors.rank("train", LABELS, answers(LABELS))
    assert table.columns.tolist() == list(label_errors.COLUMNS)
    assert table.empty


def test_margin_is_the_probability_of_the_label_less_the_highest_other_one() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25], [0.125, 0.25, 0.625], [0.375, 0.25, 0.375]], np.float32)
    table = label_errors.rank("test", np.array([0, 1, 1]), probabilities)
    assert table.to_numpy().tolist() == [
        ["test", 1, 1, 2, -0.375],
        ["test", 0, 0, 1, -0.25],
        ["test", 2, 1, 0, -0.125],  # of two equal classes, the lower digit
    ]


def test_parts_of_a_split_give_the_ranking_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "MOST", 40)
    labels = np.random.default_rng(1).integers(0, 10, 500)
    probabilities = answers(LABELS)
    whole = label_errors.rank("train", labels, probabilities)
    parts = [
        label_errors.rank("train", labels[start : start + 70], probabilities[start : start + 70], start)
        for start in range(0, 500, 70)
    ]
    assert len(whole) == 40
    pd.testing.assert_frame_equal(label_errors.lowest(pd.concat(reversed(parts))), whole)


def test_the_limit_is_for_each_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "MOST", 3)
    both = [label_errors.rank(split, (LABELS + 1) % 10, answers(LABELS, 1)) for split in ("test", "train")]
    table = label_errors.lowest(pd.concat(both))
    assert table["split"].value_counts().to_dict() == {"test": 3, "train": 3}
    assert table["margin"].is_monotonic_increasing


def test_positions_in_the_raw_split_are_found(digits: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 70)
    raw = Split(digits["train_images"][:200], digits["train_labels"][:200])
    wanted = np.array([199, 3, 71, 3, 140])
    found = label_errors.positions(raw.images[wanted], raw.labels[wanted], raw)
    np.testing.assert_array_equal(found, wanted)
    assert label_errors.positions(raw.images[:0], raw.labels[:0], raw).shape == (0,)


def test_an_equal_image_with_another_label_is_another_one(digits: Arrays) -> None:
    images, labels = digits["train_images"][:2].repeat(2, axis=0), np.array([1, 2, 1, 2], np.uint8)
    raw = Split(images, labels)
    np.testing.assert_array_equal(label_errors.positions(images[[3, 1]], labels[[3, 1]], raw), [3, 1])


def test_image_that_is_not_in_the_raw_split_is_an_error(digits: Arrays) -> None:
    raw = Split(digits["train_images"][:50], digits["train_labels"][:50])
    with pytest.raises(DataError, match="not made from this raw data"):
        label_errors.positions(digits["train_images"][49:51], digits["train_labels"][49:51], raw)
