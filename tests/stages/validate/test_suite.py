"""Every check rejects bad data and names exactly the failing images.

A run of all checks takes a second, so several tests read the verdict on one data set. Its damages are in
different rows or splits: the rows that a check names show which damage it found.
"""

from collections.abc import Iterable
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from lenet5.core.dataset import Array, Split
from lenet5.stages.validate import engine
from lenet5.stages.validate.suite import NamedExpectation
from tests.stages.validate.conftest import Examine, Splits, Verdict, copy

pytestmark = pytest.mark.xdist_group("validate-suite")  # the tests share the verdicts

TRAIN, TEST = 3000, 2000
"""Numbers of images in ``sampled``."""


def thicker(images: Array) -> Array:
    """Make the strokes one pixel taller."""
    return np.maximum(images, np.roll(images, 1, axis=1))


def without(split: Split, digit: int, *, step: int = 1) -> Split:
    """Remove one digit, or with ``step=2`` every second image of it."""
    keep = np.ones(len(split.labels), bool)
    keep[np.flatnonzero(split.labels == digit)[::step]] = False
    return Split(split.images[keep], split.labels[keep])


def with_skewed_classes(split: Split) -> Split:
    """Choose images so that each share is within its limits, but together they differ from the reference."""
    size = int((split.labels == 5).sum() / 0.119)
    shares = dict.fromkeys(range(10), 0.081) | dict.fromkeys((0, 2, 5, 6, 9), 0.119)
    chosen = np.concatenate(
        [np.flatnonzero(split.labels == digit)[: int(size * share)] for digit, share in shares.items()]
    )
    return Split(split.images[chosen], split.labels[chosen])


@pytest.fixture(scope="module")
def wrong_types(examine: Examine, sampled: Splits) -> Verdict:
    """All images and labels have a wrong type or shape, each split another one.

    Train has as many duplicates as the limit allows.
    """
    train, test = sampled["train"], sampled["test"]
    images = train.images.astype(np.int16)
    images[3, 14, 14], images[13, 14, 14] = -1, 256  # uint8 cannot hold such pixels
    images[100:110] = images[0]
    labels = train.labels.copy()
    labels[100:110] = labels[0]
    return examine(
        {
            "train": Split(images, labels[:, np.newaxis]),
            "test": Split(test.images.reshape(-1, 14, 56), test.labels.astype(np.int64)),
        }
    )


@pytest.fixture(scope="module")
def bad_images(examine: Examine, sampled: Splits) -> Verdict:
    """Single images are bad, each in one way; only train image 4 is bad in two ways.

    The last image of train and the last label of test are missing.
    """
    splits = copy(sampled)
    train, test = splits["train"], splits["test"]
    train.images[4], train.labels[4] = 200, 99
    train.images[5] = 0
    test.images[9] = 255
    train.labels[7] = 10
    train.labels[100:111] = train.labels[0]
    train.images[100:111] = train.images[0]  # eleven duplicates, one more than the limit
    test.images[1000:1300] = train.images[500:800]
    test.labels[1000:1300] = train.labels[500:800]
    return examine(
        {"train": Split(train.images[:-1], train.labels), "test": Split(test.images, test.labels[:-1])}
    )


def rows(split: str, indices: Iterable[int]) -> list[tuple[str, int]]:
    return [(split, index) for index in indices]


def test_real_digits_pass(splits: Splits, examine: Examine) -> None:
    verdict = examine(splits)
    assert verdict.failed == set()
    assert len(verdict.rows) == 0


def test_drift_of_mnist_is_far_below_the_limits(mnist: Splits, examine: Examine) -> None:
    verdict = examine(mnist, max_ink_drift=0.004, max_class_drift=0.0005)
    assert verdict.failed == set()


def test_wrong_types_fail_no_other_check(wrong_types: Verdict) -> None:
    assert wrong_types.failed == {"shape", "dtype", "label_type", "pixel_min", "pixel_max"}


def test_shape(wrong_types: Verdict) -> None:
    assert wrong_types.failing("shape") == rows("test", range(TEST))


def test_dtype(wrong_types: Verdict) -> None:
    assert wrong_types.failing("dtype") == rows("train", range(TRAIN))


def test_type_of_labels(wrong_types: Verdict) -> None:
    """In train a label is not one number an image, and in test it has another type."""
    assert wrong_types.failing("label_type") == rows("train", range(TRAIN)) + rows("test", range(TEST))


@pytest.mark.parametrize(("check", "index"), [("pixel_min", 3), ("pixel_max", 13)])
def test_pixels_out_of_range(wrong_types: Verdict, check: str, index: int) -> None:
    assert wrong_types.failing(check) == [("train", index)]


def test_bad_images_fail_no_other_check(bad_images: Verdict) -> None:
    assert bad_images.failed == {"paired", "ink_share", "label", "train_duplicates", "test_in_train"}


def test_missing_images_and_labels(bad_images: Verdict) -> None:
    assert bad_images.failing("paired") == [("train", TRAIN - 1), ("test", TEST - 1)]


def test_blank_and_full_images(bad_images: Verdict) -> None:
    assert bad_images.failing("ink_share") == [("train", 4), ("train", 5), ("test", 9)]


def test_label_that_is_no_digit(bad_images: Verdict) -> None:
    assert bad_images.failing("label") == [("train", 4), ("train", 7)]


def test_duplicates_within_train(wrong_types: Verdict, bad_images: Verdict) -> None:
    allowed = wrong_types.result("train_duplicates")
    assert (allowed.success, allowed.unexpected) == (True, 10)
    assert bad_images.failing("train_duplicates") == rows("train", range(100, 111))
    duplicates = bad_images.rows[bad_images.rows["failed"] == "train_duplicates"]
    assert duplicates["duplicate_of"].tolist() == [0] * 11


def test_test_images_in_train_are_all_named(bad_images: Verdict) -> None:
    assert bad_images.failing("test_in_train") == rows("test", range(1000, 1300))
    in_train = bad_images.rows[bad_images.rows["failed"] == "test_in_train"]
    assert in_train["also_in_train"].tolist() == list(range(500, 800))


def test_row_that_fails_two_checks_is_listed_once(bad_images: Verdict) -> None:
    listed = bad_images.rows[["split", "index", "failed"]].to_numpy().tolist()
    assert [row for row in listed if row[:2] == ["train", 4]] == [["train", 4, "ink_share label"]]
    assert len(listed) == 4 + 11 + 300 + 2  # images 4, 5, 7 and 9; duplicates; leaks; missing halves


@pytest.mark.parametrize(("thick", "skewed"), [("train", "test"), ("test", "train")])
def test_thicker_strokes_and_other_shares_of_classes_are_drift(
    splits: Splits, examine: Examine, thick: str, skewed: str
) -> None:
    """The drift of one split is not seen in the other one."""
    splits[thick] = Split(thicker(splits[thick].images), splits[thick].labels)
    splits[skewed] = with_skewed_classes(splits[skewed])
    verdict = examine(splits)
    thick_strokes = {f"ink_drift_{thick}", "class_mean", "likeness"}
    some = {f"unlike_images_{thick}"}  # thick strokes make some digits unlike any other
    assert verdict.failed - some == thick_strokes | {f"class_drift_{skewed}"}
    assert set(verdict.rows["failed"]) <= some
    assert verdict.result("likeness").seen.startswith(f"{thick}: all images are brighter")


def test_classes_and_inverted_images(splits: Splits, examine: Examine) -> None:
    """Train lacks half of its ones, and test all of its nines. The test images are inverted."""
    splits["train"] = without(splits["train"], 1, step=2)
    splits["test"] = without(splits["test"], 9)
    splits["test"] = Split(255 - splits["test"].images, splits["test"].labels)
    inverted = {
        "ink_share",
        "ink_drift_test",
        "label_agreement",
        "class_mean",
        "likeness",
        "unlike_images_test",
        "suspect_labels_test",
    }
    verdict = examine(splits)
    assert verdict.result("likeness").seen == "test: all images are inverted (dark on bright)"
    assert verdict.failed - inverted == {
        *("class_present", "class_share"),
        *("class_drift_train", "class_drift_test"),
    }
    assert verdict.failed >= inverted
    assert verdict.result("class_present").seen == "1 of 20: test 9 has 0"
    assert "train 1 has 0.059" in verdict.result("class_share").seen
    assert examine(splits, max_class_drift=1).failed - inverted == {"class_present", "class_share"}
    verdict = examine(splits, max_class_share_change=1, max_class_drift=1)
    assert verdict.failed - inverted == {"class_present"}


def test_split_without_images(splits: Splits, examine: Examine) -> None:
    splits["test"] = Split(splits["test"].images[:0], splits["test"].labels[:0])
    failed = {"class_present", "class_share", "ink_drift_test", "class_drift_test"}
    assert examine(splits).failed == failed
    del splits["test"]
    assert examine(splits).failed == failed


def test_expectation_that_cannot_be_evaluated_fails(tmp_path: Path) -> None:
    table = pd.DataFrame({"split": ["train"], "index": [0]})
    check = NamedExpectation("typo", "", "", gxe.ExpectColumnValuesToBeNull(column="lable"))
    result = engine.evaluate({"images": table}, {"images": [check]}, tmp_path)[0]
    assert not result.success
    assert result.seen == 'no answer: Error: The column "lable" in BatchData does not exist.'
