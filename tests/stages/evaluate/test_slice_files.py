"""The files about slices and label errors agree with the images, the labels and the answers of the model."""

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import DIGITS, Dataset
from lenet5.model import metrics, onnx_session
from lenet5.stages.evaluate import label_errors, slices
from tests.conftest import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def raw(finished: Project) -> Dataset:
    return dataset.load(finished.paths.raw)


def test_slices_are_those_of_the_test_images(finished: Project, raw: Dataset) -> None:
    test, train = raw.splits["test"], raw.splits["train"]
    bins = pd.read_parquet(finished.paths.slices)
    expected = slices.membership(test.images, test.labels, train.images, train.labels, DIGITS.classes)
    pd.testing.assert_frame_equal(bins, expected)
    written = pd.read_csv(finished.paths.slice_accuracy, dtype={"bin": str})
    predictions = pd.read_parquet(finished.paths.predictions)
    pd.testing.assert_frame_equal(written, slices.accuracies(bins, predictions, DIGITS.classes))
    hardest = written[written["slice"] == "hardest"].set_index("bin")
    assert hardest["high"]["hardest"] < hardest["low"]["other"]


def test_label_errors_name_raw_images_with_their_label_and_margin(finished: Project, raw: Dataset) -> None:
    table = pd.read_csv(finished.paths.label_errors)
    assert table.columns.tolist() == list(label_errors.COLUMNS)
    assert set(table["split"]) == {"train", "validation", "test"}
    assert table["margin"].is_monotonic_increasing
    session = onnx_session.load(finished.paths.onnx.read_bytes())
    for split, part in table[table["split"] != "train"].groupby("split"):  # train is scored out of fold
        source = raw.splits["test" if split == "test" else "train"]
        images, labels = source.images[part["index"]], source.labels[part["index"]]
        np.testing.assert_array_equal(part["label"], labels)
        probabilities = onnx_session.probabilities(session, images)
        rows = np.arange(len(part))
        margins = probabilities[rows, part["label"]] - probabilities[rows, part["likely"]]
        np.testing.assert_allclose(part["margin"], margins, atol=2e-6)
        np.testing.assert_array_equal(part["likely"], probabilities.argmax(axis=1))


def test_every_mistake_on_a_test_image_is_ranked(finished: Project) -> None:
    predictions = pd.read_parquet(finished.paths.predictions)
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    table = pd.read_csv(finished.paths.label_errors)
    ranked = table.loc[table["split"] == "test", "index"]
    assert len(ranked) == min(len(wrong), label_errors.MOST) > 0
    assert set(ranked) <= set(wrong["index"])
    others = wrong[~wrong["index"].isin(ranked)]
    own = others[metrics.probability_columns(others)].to_numpy()[np.arange(len(others)), others["label"]]
    assert (own - others["confidence"] >= table.loc[table["split"] == "test", "margin"].max() - 1e-6).all()
