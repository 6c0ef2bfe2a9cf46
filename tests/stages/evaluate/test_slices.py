"""Every test image is in one bin of each slice, and a bin on which a model fails shows."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lenet5.core.dataset import DIGITS, Split
from lenet5.images import measures, neighbours
from lenet5.stages.evaluate import slices
from tests.conftest import Arrays

Find = Callable[[Split], pd.DataFrame]


@pytest.fixture(scope="module")
def find(digits: Arrays) -> Find:
    """Find the bins of some test images, with 1,000 training images."""
    images, labels = digits["train_images"][:1000], digits["train_labels"][:1000]
    return lambda test: slices.membership(test.images, test.labels, images, labels, DIGITS.classes)


@pytest.fixture(scope="module")
def bins(find: Find, test: Split) -> pd.DataFrame:
    return find(test)


def predictions(labels: NDArray[np.uint8], wrong: NDArray[np.bool_]) -> pd.DataFrame:
    """Predictions that are wrong for the images that ``wrong`` names, in the order of the images."""
    predicted = labels.astype(np.int64)
    predicted[wrong] = (predicted[wrong] + 1) % 10
    return pd.DataFrame({"index": np.arange(len(labels)), "label": labels, "predicted": predicted})


def test_every_image_is_in_one_bin_of_each_slice(bins: pd.DataFrame, test: Split) -> None:
    assert bins.columns.tolist() == ["index", *slices.all_bins(DIGITS.classes)]
    assert bins["index"].tolist() == list(range(250))
    assert bins["class"].tolist() == [str(label) for label in test.labels]
    for name, names in slices.all_bins(DIGITS.classes).items():
        assert set(bins[name]) == set(names)
    for name in ("stroke_thickness", "slant", "train_distance"):  # measures with few equal values
        low, normal, high = slices.BINS[name]
        assert bins[name].value_counts().to_dict() == {low: 25, normal: 200, high: 25}
    assert (bins["hardest"] == "hardest").sum() == 12


def test_bins_follow_the_measures(bins: pd.DataFrame, test: Split) -> None:
    for name, values in measures.measure(test.images).items():
        low, normal, high = (values[bins[name] == bin_name] for bin_name in slices.BINS[name])
        assert low.max() < normal.min() <= normal.max() < high.min()


@pytest.mark.parametrize(
    ("name", "bin_name", "change"),
    [
        ("stroke_thickness", "thick", lambda image: ndimage.grey_dilation(image, (5, 5))),
        ("size", "small", lambda image: ndimage.zoom(image, 0.4, order=1)),
        (
            "slant",
            "right",
            lambda image: ndimage.affine_transform(image, [[1, 0], [1, 1]], [0, -14], order=1),
        ),
        ("foreground", "little", lambda image: image // 2),
        ("train_distance", "far", lambda image: 255 - image),
    ],
)
def test_changed_images_are_in_the_bin_of_the_change(
    find: Find,
    test: Split,
    name: str,
    bin_name: str,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    images = np.array(test.images)
    for index in range(10):
        changed = change(images[index])
        images[index] = 0
        images[index, : changed.shape[0], : changed.shape[1]] = changed
    found = find(Split(images, test.labels))[name]
    assert (found[:10] == bin_name).all(), found[:10].tolist()


def test_easy_images_with_other_labels_are_the_hardest(find: Find, digits: Arrays, test: Split) -> None:
    distances = neighbours.nearest_by_class(test.images, digits["train_images"], digits["train_labels"], 10)
    easy = slices.hardness(distances, test.labels).argsort()[:5]
    labels = np.array(test.labels)
    labels[easy] = (labels[easy] + 1) % 10
    assert (find(test)["hardest"][easy] == "other").all()
    assert (find(Split(test.images, labels))["hardest"][easy] == "hardest").all()


def test_hardness_is_the_share_of_the_own_distance() -> None:
    inf = np.inf
    distances = np.array([[0, 4], [3, 1], [2, 2], [0, 0], [inf, 1], [1, inf], [inf, inf]], np.float32)
    hardness = slices.hardness(distances, np.zeros(7, np.uint8))
    np.testing.assert_array_equal(hardness, [0, 0.75, 0.5, 0.5, 1, 0, 0.5])


def test_hardness_above_one_half_is_a_wrong_nearest_neighbour(digits: Arrays, test: Split) -> None:
    distances = neighbours.nearest_by_class(test.images, digits["train_images"], digits["train_labels"], 10)
    wrong = distances.argmin(axis=1) != test.labels
    np.testing.assert_array_equal(slices.hardness(distances, test.labels) > 0.5, wrong)
    assert 0 < wrong.sum() < 75


def test_a_bin_on_which_the_model_fails_shows(bins: pd.DataFrame, test: Split) -> None:
    table = slices.accuracies(
        bins, predictions(test.labels, (bins["slant"] == "left").to_numpy()), DIGITS.classes
    )
    slant = table[table["slice"] == "slant"].set_index("bin")
    assert slant["accuracy"].to_dict() == {"left": 0, "normal": 1, "right": 1}
    assert slant["high"]["left"] < 0.2
    assert slant["low"][["normal", "right"]].min() > 0.8
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    for _, part in table.groupby("slice"):
        assert part["images"].sum() == 250
        assert (part["images"] * part["accuracy"]).sum() == pytest.approx(225)


def test_the_order_of_the_predictions_does_not_matter(bins: pd.DataFrame, test: Split) -> None:
    table = predictions(test.labels, test.labels == 4)
    shuffled = table.sample(frac=1, random_state=0)
    first, second = (slices.accuracies(bins, each, DIGITS.classes) for each in (shuffled, table))
    pd.testing.assert_frame_equal(first, second)


def test_a_bin_without_images_has_no_row(find: Find, test: Split) -> None:
    chosen = test.labels != 4
    few = Split(test.images[chosen][:9], test.labels[chosen][:9])
    table = slices.accuracies(find(few), predictions(few.labels, np.zeros(9, bool)), DIGITS.classes)
    assert "4" not in table.loc[table["slice"] == "class", "bin"].tolist()
    assert set(table.loc[table["slice"] != "class", "bin"]) == {"normal", "other"}
    assert (table["images"] > 0).all()


def test_images_with_equal_values_are_in_one_bin() -> None:
    values = np.array([1.0] * 15 + [2] * 70 + [3] * 15)
    assert set(slices.three_bins(values, ("low", "middle", "high"))) == {"middle"}
    values[:8], values[-8:] = 0, 4
    names = slices.three_bins(values, ("low", "middle", "high")).tolist()
    assert names == ["low"] * 8 + ["middle"] * 84 + ["high"] * 8


def test_most_confused_pairs_come_first() -> None:
    pairs = [(4, 9), (9, 4), (9, 4), (3, 3), (0, 6), (9, 4), (0, 6)]
    table = pd.DataFrame(pairs, columns=["label", "predicted"])
    assert slices.confused_pairs(table).to_numpy().tolist() == [[9, 4, 3], [0, 6, 2], [4, 9, 1]]
    assert slices.confused_pairs(table[3:4]).columns.tolist() == ["label", "predicted", "images"]
    assert len(slices.confused_pairs(table[3:4])) == 0
