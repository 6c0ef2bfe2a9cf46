"""The tables describe every image and every class."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Split
from lenet5.stages.validate import frames
from tests.stages.validate.conftest import Splits

EDGES = tuple(hundredths / 100 for hundredths in range(6, 42, 2))
"""Of the bins of ink."""
DIGITS = dataset.DIGITS.classes


def test_images_have_one_row_each(splits: Splits) -> None:
    table = frames.images(splits, ink_threshold=127, ink_edges=EDGES)
    assert len(table) == 5000
    row = table[(table["split"] == "test") & (table["index"] == 3)].iloc[0]
    image = splits["test"].images[3]
    assert row["label"] == splits["test"].labels[3]
    assert (row["shape"], row["dtype"], row["label_type"]) == ("28x28", "uint8", "uint8")
    assert (row["height"], row["width"]) == (28, 28)
    assert (row["min"], row["max"]) == (image.min(), image.max())
    assert row["ink"] == pytest.approx((image > 127).mean())


def test_details_are_added_to_rows(splits: Splits) -> None:
    splits["train"] = Split(splits["train"].images, splits["train"].labels[:-1])
    splits["test"] = Split(splits["test"].images[:-1], splits["test"].labels)
    last = frames.images(splits, ink_threshold=0, ink_edges=EDGES).groupby("split").tail(1)
    detailed = frames.add_details(last, splits).set_index("split")
    image = splits["train"].images[-1]
    assert detailed.loc["train", "mean"] == image.mean()
    assert detailed.loc["train", "sha256"] == hashlib.sha256(image.tobytes()).hexdigest()
    assert detailed.loc["test", ["mean", "sha256"]].isna().all()


@pytest.mark.parametrize("changed", [{}, {"images": -7}, {"labels": -7}])
def test_tables_do_not_depend_on_the_size_of_chunks(
    splits: Splits, changed: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = splits["train"]
    splits["train"] = Split(train.images[: changed.get("images")], train.labels[: changed.get("labels")])
    whole = frames.images(splits, ink_threshold=0, ink_edges=EDGES)
    monkeypatch.setattr(dataset, "CHUNK", 999)
    parts = frames.images(splits, ink_threshold=0, ink_edges=EDGES)
    pd.testing.assert_frame_equal(parts, whole)
    pd.testing.assert_frame_equal(frames.classes(parts, DIGITS), frames.classes(whole, DIGITS))


def test_row_is_small(splits: Splits) -> None:
    """Great Expectations copies the table for every check; six million rows must fit into 1 GiB."""
    table = frames.images(splits, ink_threshold=0, ink_edges=EDGES)
    assert table.memory_usage(index=False).sum() / len(table) < 40


def test_duplicates_point_to_the_first_identical_train_image(splits: Splits) -> None:
    train, test = splits["train"].images, splits["test"].images
    train[8] = train[6] = train[2]
    test[1] = train[8]
    test[5] = test[4]  # a duplicate within test is no leak
    table = frames.images(splits, ink_threshold=0, ink_edges=EDGES).set_index(["split", "index"])
    assert table["duplicate_of"].dropna().to_dict() == {("train", 6): 2, ("train", 8): 2}
    assert table["also_in_train"].dropna().to_dict() == {("test", 1): 2}


@pytest.mark.parametrize(("images", "labels", "holds"), [(5, 3, "image only"), (3, 5, "label only")])
def test_missing_images_and_labels_are_null(splits: Splits, images: int, labels: int, holds: str) -> None:
    train = splits["train"]
    table = frames.images(
        {"train": Split(train.images[:images], train.labels[:labels])}, ink_threshold=0, ink_edges=EDGES
    )
    assert table["holds"].tolist() == [frames.PAIRED] * 3 + [holds] * 2
    assert table["label"].isna().sum() == 5 - labels
    assert table["ink"].isna().sum() == 5 - images


def test_every_share_of_ink_has_a_bin() -> None:
    pixels = np.zeros((3, 28, 28), np.uint8)
    pixels[1, :14] = 255
    pixels[2] = 255
    table = frames.images({"train": Split(pixels, np.zeros(3, np.uint8))}, ink_threshold=0, ink_edges=EDGES)
    assert table["ink"].tolist() == [0, 0.5, 1]
    assert table["ink_bin"].tolist() == ["0.00-0.06", "0.40-1.00", "0.40-1.00"]


def test_classes_have_one_row_for_each_split_and_class() -> None:
    images = pd.DataFrame({"split": ["train"] * 4 + ["test"], "label": [0, 0, 9, 77, 5]})
    table = frames.classes(images, DIGITS)
    assert len(table) == 20
    rows = {(row["split"], row["label"]): (row["count"], row["share"]) for row in table.to_dict("records")}
    assert rows["train", 0] == (2, 0.5)
    assert rows["train", 9] == (1, 0.25)  # the total includes wrong labels
    assert rows["train", 1] == (0, 0)
    assert rows["test", 5] == (1, 1)
