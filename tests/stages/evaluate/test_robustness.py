"""Answers on corrupted images are summarized by corruption and severity."""

from typing import get_args

import numpy as np
import pytest

from lenet5.images.corruptions import CORRUPTIONS
from lenet5.images.corruptions.scoring import Answers
from lenet5.model import metrics
from lenet5.stages.evaluate import robustness
from lenet5.stages.evaluate.params import CorruptionName

IMAGES = 100


@pytest.fixture
def answers() -> Answers:
    """Two corruptions of two severities, with 90, 80, 50 and 40 of 100 images correct."""
    correct = np.concatenate([np.arange(IMAGES) < count for count in (90, 80, 50, 40)])
    label = np.tile(np.arange(IMAGES) % 10, 4)
    columns = {
        "corruption": np.repeat(["rotate", "fog"], 2 * IMAGES),
        "severity": np.tile(np.repeat([1, 3], IMAGES), 2),
        "index": np.tile(np.arange(IMAGES), 4),
        "label": label,
        "predicted": np.where(correct, label, (label + 1) % 10),
        "confidence": np.full(4 * IMAGES, 0.5, np.float32),
    }
    return Answers(columns, clean_accuracy=0.98, corrupted_images="c" * 64)


def test_each_corruption_and_severity_has_a_row(answers: Answers) -> None:
    rows = robustness.summary(answers)
    assert rows[["corruption", "severity", "images"]].to_numpy().tolist() == [
        *(["rotate", 1, 100], ["rotate", 3, 100], ["fog", 1, 100], ["fog", 3, 100]),
    ]
    assert rows["accuracy"].tolist() == [0.9, 0.8, 0.5, 0.4]
    assert rows["retained"].tolist() == pytest.approx([0.9 / 0.98, 0.8 / 0.98, 0.5 / 0.98, 0.4 / 0.98])
    for row in rows.to_dict("records"):
        assert (row["low"], row["high"]) == metrics.wilson(row["accuracy"], 100)
        assert row["low"] < row["accuracy"] < row["high"]


def test_the_mean_is_over_corruptions(answers: Answers) -> None:
    assert robustness.summarize(answers) == {
        "corruption_accuracy": {"rotate": pytest.approx(0.85), "fog": pytest.approx(0.45)},
        "mean_corruption_accuracy": pytest.approx(0.65),
        "retained_accuracy": pytest.approx(0.65 / 0.98),
        "corrupted_images": "c" * 64,
    }


def test_a_model_that_is_always_wrong_retains_nothing(answers: Answers) -> None:
    wrong = {**answers.columns, "predicted": (answers.columns["label"] + 1) % 10}
    summary = robustness.summarize(Answers(wrong, clean_accuracy=0.0, corrupted_images="c" * 64))
    assert summary["retained_accuracy"] == 0


def test_params_know_every_corruption() -> None:
    assert set(get_args(CorruptionName)) == set(CORRUPTIONS)
