"""Every check rejects bad data and names exactly the failing images."""

from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from lenet5.core.dataset import Array, Split
from lenet5.stages.validate import engine
from lenet5.stages.validate.suite import NamedExpectation
from tests.stages.validate.conftest import Examine, Splits


def thicker(images: Array) -> Array:
    """Make the strokes one pixel taller."""
    return np.maximum(images, np.roll(images, 1, axis=1))


def without_half_of(split: Split, digit: int) -> Split:
    keep = np.ones(len(split.labels), bool)
    keep[np.flatnonzero(split.labels == digit)[::2]] = False
    return Split(split.images[keep], split.labels[keep])


def test_real_digits_pass(splits: Splits, examine: Examine) -> None:
    verdict = examine(splits)
    assert verdict.failed == set()
    assert len(verdict.rows) == 0


def test_drift_of_mnist_is_far_below_the_limits(mnist: Splits, examine: Examine) -> None:
    verdict = examine(mnist, max_ink_drift=0.004, max_class_drift=0.0005)
    assert verdict.failed == set()


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_paired(splits: Splits, examine: Examine, missing: str) -> None:
    train = splits["train"]
    last = len(train.labels) - 1
    if missing == "images":
        splits["train"] = Split(train.images[:-1], train.labels)
    else:
        splits["train"] = Split(train.images, train.labels[:-1])
    verdict = examine(splits)
    assert verdict.failed == {"paired"}
    assert verdict.failing("paired") == [("train", last)]


def test_shape(splits: Splits, examine: Examine) -> None:
    test = splits["test"]
    splits["test"] = Split(test.images.reshape(-1, 14, 56), test.labels)
    verdict = examine(splits)
    assert verdict.failed == {"shape"}
    assert verdict.failing("shape") == [("test", index) for index in range(len(test.labels))]


def test_dtype(splits: Splits, examine: Examine) -> None:
    test = splits["test"]
    splits["test"] = Split(test.images.astype(np.uint16), test.labels)
    verdict = examine(splits)
    assert verdict.failed == {"dtype"}
    assert set(verdict.rows["split"]) == {"test"}
    assert len(verdict.rows) == len(test.labels)


def test_label_type(splits: Splits, examine: Examine) -> None:
    test = splits["test"]
    splits["test"] = Split(test.images, test.labels.astype(np.int64))
    assert examine(splits).failed == {"label_type"}


def test_labels_that_are_not_one_number_an_image(splits: Splits, examine: Examine) -> None:
    test = splits["test"]
    splits["test"] = Split(test.images, test.labels[:, np.newaxis])
    assert examine(splits).failed == {"label_type"}


@pytest.mark.parametrize(("check", "pixel"), [("pixel_min", -1), ("pixel_max", 256)])
def test_pixels_out_of_range(splits: Splits, examine: Examine, check: str, pixel: int) -> None:
    images = splits["train"].images.astype(np.int16)
    images[3, 14, 14] = pixel
    splits["train"] = Split(images, splits["train"].labels)
    verdict = examine(splits)
    assert verdict.failed == {"dtype", check}  # uint8 cannot hold such a pixel
    assert verdict.failing(check) == [("train", 3)]


def test_blank_and_full_images(splits: Splits, examine: Examine) -> None:
    splits["train"].images[5] = 0
    splits["test"].images[9] = 255
    verdict = examine(splits)
    assert verdict.failed == {"ink_share"}
    assert verdict.failing("ink_share") == [("train", 5), ("test", 9)]


def test_label_that_is_no_digit(splits: Splits, examine: Examine) -> None:
    splits["train"].labels[7] = 10
    verdict = examine(splits)
    assert verdict.failed == {"label"}
    assert verdict.failing("label") == [("train", 7)]


def test_duplicates_within_train(splits: Splits, examine: Examine) -> None:
    train = splits["train"]
    train.images[100:110] = train.images[0]  # ten duplicates, as many as the limit allows
    assert examine(splits).failed == set()
    train.images[110] = train.images[0]
    verdict = examine(splits)
    assert verdict.failed == {"train_duplicates"}
    assert verdict.failing("train_duplicates") == [("train", index) for index in range(100, 111)]
    assert set(verdict.rows["duplicate_of"]) == {0}


def test_test_images_in_train_are_all_named(splits: Splits, examine: Examine) -> None:
    splits["test"].images[:300] = splits["train"].images[:300]
    verdict = examine(splits)
    assert verdict.failed == {"test_in_train"}
    assert verdict.failing("test_in_train") == [("test", index) for index in range(300)]
    assert verdict.rows["also_in_train"].tolist() == list(range(300))


@pytest.mark.parametrize("split", ["train", "test"])
def test_thicker_strokes_are_drift(splits: Splits, examine: Examine, split: str) -> None:
    splits[split] = Split(thicker(splits[split].images), splits[split].labels)
    verdict = examine(splits)
    assert verdict.failed == {f"ink_drift_{split}"}
    assert len(verdict.rows) == 0


def test_inverted_images(splits: Splits, examine: Examine) -> None:
    splits["test"] = Split(255 - splits["test"].images, splits["test"].labels)
    assert examine(splits).failed == {"ink_share", "ink_drift_test"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_drift(splits: Splits, examine: Examine, split: str) -> None:
    labels = splits[split].labels
    # each share is within its limits, but together they differ from the reference
    size = int((labels == 5).sum() / 0.119)
    shares = dict.fromkeys(range(10), 0.081) | dict.fromkeys((0, 2, 5, 6, 9), 0.119)
    chosen = np.concatenate(
        [np.flatnonzero(labels == digit)[: int(size * share)] for digit, share in shares.items()]
    )
    splits[split] = Split(splits[split].images[chosen], labels[chosen])
    verdict = examine(splits, max_ink_drift=0.1)
    assert verdict.failed == {f"class_drift_{split}"}


def test_class_share(splits: Splits, examine: Examine) -> None:
    splits["train"] = without_half_of(splits["train"], 1)
    assert examine(splits).failed == {"class_share", "class_drift_train"}
    assert examine(splits, max_class_drift=1).failed == {"class_share"}


def test_missing_class(splits: Splits, examine: Examine) -> None:
    keep = splits["test"].labels != 9
    splits["test"] = Split(splits["test"].images[keep], splits["test"].labels[keep])
    assert examine(splits).failed == {"class_present", "class_share", "class_drift_test"}
    verdict = examine(splits, class_share_min=0, class_share_max=1, max_class_drift=1)
    assert verdict.failed == {"class_present"}
    assert (
        next(result.seen for result in verdict.results if result.name == "class_present")
        == "1 of 20: test 9 has 0"
    )


def test_split_without_images(splits: Splits, examine: Examine) -> None:
    splits["test"] = Split(splits["test"].images[:0], splits["test"].labels[:0])
    failed = {"class_present", "class_share", "ink_drift_test", "class_drift_test"}
    assert examine(splits).failed == failed
    del splits["test"]
    assert examine(splits).failed == failed


def test_row_that_fails_two_checks_is_listed_once(splits: Splits, examine: Examine) -> None:
    splits["train"].labels[4] = 99
    splits["train"].images[4] = 0
    verdict = examine(splits)
    assert verdict.rows[["split", "index", "failed"]].to_numpy().tolist() == [["train", 4, "ink_share label"]]


def test_expectation_that_cannot_be_evaluated_fails(tmp_path: Path) -> None:
    table = pd.DataFrame({"split": ["train"], "index": [0]})
    check = NamedExpectation("typo", "", "", gxe.ExpectColumnValuesToBeNull(column="lable"))
    result = engine.evaluate({"images": table}, {"images": [check]}, tmp_path)[0]
    assert not result.success
    assert result.seen == 'no answer: Error: The column "lable" in BatchData does not exist.'
