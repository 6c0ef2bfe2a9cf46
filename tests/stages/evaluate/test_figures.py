"""Figures can be drawn for any result, and equal results give equal bytes."""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lenet5.core.dataset import Split
from lenet5.model import metrics
from lenet5.stages.evaluate import figures

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "loss": [1.0, 0.5],
        "val_loss": [0.9, 0.6],
        "accuracy": [0.8, 0.9],
        "val_accuracy": [0.85, 0.9],
    }
)


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, metadata={"Software": None})
    return file.getvalue()


def table(test: Split, wrong: int) -> pd.DataFrame:
    """Predictions whose first ``wrong`` rows are mistakes; the confidence rises from row to row."""
    predicted = test.labels.astype(int)
    predicted[:wrong] = (predicted[:wrong] + 1) % 10
    probabilities = np.full((len(predicted), 10), 0.01, np.float32)
    probabilities[np.arange(len(predicted)), predicted] = 0.5 + 0.001 * np.arange(len(predicted))
    return metrics.predictions(test.labels, probabilities)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


DRAWN: dict[str, Callable[[Split, int], Figure]] = {
    "learning_curves": lambda test, wrong: figures.learning_curves(HISTORY),
    "confusion": lambda test, wrong: figures.confusion(table(test, wrong)),
    "calibration": lambda test, wrong: figures.calibration(metrics.calibration(table(test, wrong), 10)),
    "mistakes": lambda test, wrong: figures.mistakes(test.images, table(test, wrong), limit=6),
}


@pytest.mark.parametrize("wrong", [0, 1, 250])
@pytest.mark.parametrize("name", DRAWN)
def test_equal_predictions_give_equal_bytes(test: Split, name: str, wrong: int) -> None:
    first, second = (png(DRAWN[name](test, wrong)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["confusion", "calibration", "mistakes"])
def test_other_predictions_give_another_figure(test: Split, name: str) -> None:
    assert png(DRAWN[name](test, 3)) != png(DRAWN[name](test, 4))


def test_most_confident_mistakes_come_first(test: Split) -> None:
    shown = titles(figures.mistakes(test.images, table(test, wrong=20), limit=6))
    assert [title.split(":")[0] for title in shown] == [f"#{index}" for index in range(19, 13, -1)]
    label = int(test.labels[17])
    assert shown[2] == f"#17: {label} → {(label + 1) % 10} (52%)"


@pytest.mark.parametrize(
    ("wrong", "limit", "shown"), [(0, 6, 0), (3, 6, 3), (6, 6, 6), (20, 1, 1), (2, 100, 2)]
)
def test_number_of_pictures_is_limited_by_the_mistakes(
    test: Split, wrong: int, limit: int, shown: int
) -> None:
    assert len(titles(figures.mistakes(test.images, table(test, wrong), limit))) == shown


def test_confusion_shows_every_count(test: Split) -> None:
    frame = table(test, wrong=5)
    texts = [int(text.get_text()) for text in figures.confusion(frame).axes[0].texts]
    assert sum(texts) == 250
