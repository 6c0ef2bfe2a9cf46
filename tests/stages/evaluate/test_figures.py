"""Figures can be drawn for any result, and equal results give equal bytes."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lenet5.core.dataset import DIGITS, Description, Split
from lenet5.model import metrics
from lenet5.stages.evaluate import figures, label_errors, slices

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
    "confusion": lambda test, wrong: figures.confusion(table(test, wrong), DIGITS.classes),
    "calibration": lambda test, wrong: figures.calibration(metrics.calibration(table(test, wrong), 10)),
    "mistakes": lambda test, wrong: figures.mistakes(test.images, table(test, wrong), 6, DIGITS),
}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("learning_curves", 0), *itertools.product(("confusion", "calibration", "mistakes"), (0, 1, 250))],
)
def test_equal_predictions_give_equal_bytes(test: Split, name: str, wrong: int) -> None:
    first, second = (png(DRAWN[name](test, wrong)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["confusion", "calibration", "mistakes"])
def test_other_predictions_give_another_figure(test: Split, name: str) -> None:
    assert png(DRAWN[name](test, 3)) != png(DRAWN[name](test, 4))


def test_most_confident_mistakes_come_first(test: Split) -> None:
    shown = titles(figures.mistakes(test.images, table(test, wrong=20), 6, DIGITS))
    assert [title.split(":")[0] for title in shown] == [f"#{index}" for index in range(19, 13, -1)]
    label = int(test.labels[17])
    assert shown[2] == f"#17: {label} → {(label + 1) % 10} (52%)"


@pytest.mark.parametrize(
    ("wrong", "limit", "shown"), [(0, 6, 0), (3, 6, 3), (6, 6, 6), (20, 1, 1), (2, 100, 2)]
)
def test_number_of_pictures_is_limited_by_the_mistakes(
    test: Split, wrong: int, limit: int, shown: int
) -> None:
    assert len(titles(figures.mistakes(test.images, table(test, wrong), limit, DIGITS))) == shown


def test_confusion_shows_every_count(test: Split) -> None:
    frame = table(test, wrong=5)
    texts = [int(text.get_text()) for text in figures.confusion(frame, DIGITS.classes).axes[0].texts]
    assert sum(texts) == 250


def by_class(test: Split, wrong: int) -> pd.DataFrame:
    bins = pd.DataFrame({"index": np.arange(len(test.labels)), "class": test.labels.astype(str)})
    rest = {name: names[0] for name, names in slices.BINS.items()}
    return slices.accuracies(bins.assign(**rest), table(test, wrong), DIGITS.classes)


def confused_pairs(test: Split, wrong: int) -> Figure:
    frame = table(test, wrong)
    return figures.confused_pairs(test.images, frame, slices.confused_pairs(frame), DIGITS)


def doubted(test: Split, wrong: int) -> Figure:
    frame = table(test, wrong)
    ranked = label_errors.rank(
        "test", test.labels, frame[metrics.probability_columns(frame)].to_numpy()
    ).head(9)
    return figures.label_errors(test.images[ranked["index"]], ranked, DIGITS.pictures)


@pytest.mark.parametrize("draw", [lambda *args: figures.slices(by_class(*args)), confused_pairs, doubted])
def test_figures_without_mistakes_differ_from_those_with_some(
    test: Split, draw: Callable[[Split, int], Figure]
) -> None:
    assert png(draw(test, 0)) != png(draw(test, 4))


def test_slices_have_their_names_and_numbers_of_images(test: Split) -> None:
    names = [label.get_text() for label in figures.slices(by_class(test, 3)).axes[0].get_yticklabels()]
    assert names[4] == f"class: 4 ({(test.labels == 4).sum()})"
    rest = [f"{name.replace('_', ' ')}: {bins[0]} (250)" for name, bins in slices.BINS.items()]
    assert names[10:] == rest


def test_most_confused_pair_is_drawn_first_with_its_pictures(test: Split) -> None:
    frame = table(test, 0)
    fours = np.flatnonzero(test.labels == 4)[:3]
    frame.loc[fours, "predicted"] = 9
    frame.loc[test.labels.argmin(), "predicted"] = 6
    figure = figures.confused_pairs(test.images, frame, slices.confused_pairs(frame), DIGITS)
    (image,) = figure.axes[0].get_images()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["4 → 9: 3", "0 → 6: 1"]
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (60, 90)
    for column, index in enumerate(reversed(fours)):  # the confidence rises from row to row
        np.testing.assert_array_equal(
            drawn[1:29, 30 * column + 1 : 30 * column + 29], 255 - test.images[index]
        )
    assert (drawn[30:, :30] < 255).any()
    assert (drawn[30:, 30:] == 255).all()  # paper


def test_label_errors_have_label_likely_class_and_margin(test: Split) -> None:
    texts = [text.get_text() for text in doubted(test, 20).axes[0].texts]
    label = int(test.labels[19])
    assert texts[0] == f"test #19\n{label} → {(label + 1) % 10} (-0.51)"
    assert len(texts) == 9


def test_robustness_has_a_row_for_each_corruption_and_a_number_in_each_cell() -> None:
    rows = [
        {"corruption": name, "severity": severity, "accuracy": accuracy}
        for name, accuracies in {"shot_noise": (0.987, 0.5), "fog": (0.4, 0.0)}.items()
        for severity, accuracy in zip((1, 4), accuracies, strict=True)
    ]
    axes = figures.robustness(pd.DataFrame(rows)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shot noise", "fog"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4"]
    assert [text.get_text() for text in axes.texts] == ["98.7", "50.0", "40.0", "0.0"]


NAMES = Description(classes=tuple(f"class ${i}" for i in range(40)), pictures="object")


@pytest.fixture
def many() -> pd.DataFrame:
    """Predictions of 40 classes; the classes from 15 on are often read as class 3."""
    labels = np.arange(400) % 40
    probabilities = np.full((400, 40), 0.01, np.float32)
    predicted = np.where((labels >= 15) & (np.arange(400) < 200), 3, labels)
    probabilities[np.arange(400), predicted] = 0.6
    return metrics.predictions(labels, probabilities)


def test_confusion_of_many_classes_shows_those_with_most_mistakes_and_sums_the_others(
    many: pd.DataFrame,
) -> None:
    figure = figures.confusion(many, NAMES.classes)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == figures.MOST_CLASSES + 1
    assert names[0] == r"class \$3"
    assert names[-1] == figures.OTHERS
    assert sum(int(text.get_text()) for text in axes.texts) == 400
    assert max(figure.get_size_inches()) < 15
    assert png(figure) == png(figures.confusion(many, NAMES.classes))


def test_slices_of_many_classes_show_those_with_the_lowest_accuracy(many: pd.DataFrame) -> None:
    bins = pd.DataFrame({"index": many["index"], "class": np.array(NAMES.classes, object)[many["label"]]})
    rest = {name: names[0] for name, names in slices.BINS.items()}
    table = slices.accuracies(bins.assign(**rest), many, NAMES.classes)
    assert (table["slice"] == "class").sum() == 40
    figure = figures.slices(table)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    of_classes = [name for name in names if name.startswith("class: ")]
    assert len(of_classes) == figures.MOST_CLASSES
    assert r"class: class \$15 (10)" in of_classes
    assert r"class: class \$3 (10)" not in of_classes
    overall = (many["label"] == many["predicted"]).mean()
    assert np.asarray(figure.axes[0].lines[-1].get_xdata())[0] == pytest.approx(overall)


@pytest.mark.filterwarnings("error")
def test_pictures_of_objects_keep_their_colours_and_digits_are_ink_on_paper() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    table = metrics.predictions(np.array([0, 1, 0, 1]), np.array([[0.1, 0.9]] * 4, np.float32))
    names = Description(classes=("a very long name of a class", "b"), pictures="object")
    figure = figures.confused_pairs(images, table, slices.confused_pairs(table), names)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a very long n… → b: 2"]
    assert png(figure)
    drawn = np.asarray(figure.axes[0].get_images()[0].get_array())
    np.testing.assert_array_equal(drawn[1:17, 1:17], images[0])
    shown = figures.mistakes(images, table, 4, names).axes[0]
    np.testing.assert_array_equal(np.asarray(shown.get_images()[0].get_array()), images[0])
    assert shown.get_title() == "#0: a very long n… →\nb (90%)"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["W", "W" * 40, "blue triangle"])
def test_long_names_leave_room_for_the_pictures(name: str) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    table = metrics.predictions(np.array([0, 1]), np.array([[0.1, 0.9]] * 2, np.float32))
    description = Description(classes=(f"{name}1", f"{name}2"), pictures="whole")
    pairs = slices.confused_pairs(table)
    assert png(figures.confused_pairs(images, table, pairs, description))
    assert png(figures.mistakes(images, table, 25, description))
    assert png(figures.confusion(table, description.classes))


@pytest.mark.filterwarnings("error")
def test_names_that_the_font_lacks_or_that_look_like_formulas_are_drawn() -> None:
    table = metrics.predictions(np.array([0, 1]), np.array([[0.1, 0.9]] * 2, np.float32))
    with figures.default_style():
        assert png(figures.confusion(table, ("靴", r"$\\frac{$")))
