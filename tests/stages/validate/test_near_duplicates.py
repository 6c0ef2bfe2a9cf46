"""Copies with a few other pixels or at another place are found; different digits are not."""

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Array, Split
from lenet5.stages.validate import near_duplicates
from lenet5.stages.validate.frames import SPLITS
from tests.stages.validate.conftest import Splits

PIXELS = 10


def found(splits: Splits, max_pixels: int = PIXELS) -> dict[tuple[str, int], int]:
    """Return (split, index) of each near-duplicate, and the index of its source in train."""
    result = near_duplicates.find(splits, SPLITS, max_pixels)
    assert {name: len(rows) for name, rows in result.items()} == {
        name: len(splits[name].images) if name in splits else 0 for name in SPLITS
    }
    rows = ((name, index, source) for name, each in result.items() for index, source in enumerate(each))
    return {(name, index): source for name, index, source in rows if pd.notna(source)}


def other_pixels(image: Array, count: int, seed: int = 0) -> Array:
    changed = image.copy()
    changed.reshape(-1)[np.random.default_rng(seed).choice(image.size, count, replace=False)] ^= 0x55
    return changed


@pytest.mark.slow
def test_different_digits_are_no_near_duplicates(mnist: Splits) -> None:
    """The nearest two images of MNIST differ in about 20 pixels."""
    assert found(mnist, 18) == {}
    assert len(found(mnist, 30)) > 5


@pytest.mark.parametrize("count", [1, 3, PIXELS])
def test_copies_with_other_pixels_are_found(splits: Splits, count: int) -> None:
    train, test = splits["train"].images, splits["test"].images
    for index in range(500):
        test[index] = other_pixels(train[1000 + index], count, seed=index)
    recall = len(found(splits)) / 500
    assert recall > (0.98 if count < PIXELS else 0.93)
    assert all(key == ("test", source - 1000) for key, source in found(splits).items())


@pytest.mark.parametrize("shift", [(0, 1), (-2, 0), (3, -3)])
def test_shifted_copies_are_found(splits: Splits, shift: tuple[int, int]) -> None:
    splits["test"].images[7] = other_pixels(np.roll(splits["train"].images[11], shift, (0, 1)), 2)
    assert found(splits) == {("test", 7): 11}


def test_one_pixel_more_than_the_limit_is_another_image(splits: Splits) -> None:
    splits["test"].images[7] = other_pixels(splits["train"].images[11], 5)
    assert found(splits, 5) == {("test", 7): 11}
    assert found(splits, 4) == {}


def test_near_duplicates_in_train_point_to_an_earlier_image(splits: Splits) -> None:
    train = splits["train"].images
    train[9], train[4] = other_pixels(train[6], 2), other_pixels(train[6], 3, seed=1)
    assert found(splits) == {("train", 6): 4, ("train", 9): 4}


def test_identical_images_and_copies_within_test_are_left_out(splits: Splits) -> None:
    train, test = splits["train"].images, splits["test"].images
    train[5] = train[3]
    test[5] = train[3]
    test[8] = other_pixels(test[9], 1)
    assert found(splits) == {}


def test_result_does_not_depend_on_the_size_of_chunks(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(50):
        splits["test"].images[index] = other_pixels(splits["train"].images[index * 7], 4, seed=index)
    whole = found(splits)
    monkeypatch.setattr(dataset, "CHUNK", 333)
    monkeypatch.setattr(near_duplicates, "_PAIRS", 7)
    assert found(splits) == whole
    assert len(whole) > 45


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((5, 28, 28), np.uint8),
        np.full((5, 28, 28), 9, np.uint8),
        np.zeros((5, 3, 2), np.int16),
        np.zeros((5, 28), np.uint8),
    ],
)
def test_images_of_any_kind_are_accepted(images: Array) -> None:
    labels = np.zeros(len(images), np.uint8)
    assert found({"train": Split(images, labels), "test": Split(images, labels)}) == {}
    assert found({"train": Split(images, labels)}) == {}
    other = Split(np.ones((2, 4, 4), np.uint8), np.zeros(2, np.uint8))
    assert found({"train": Split(images, labels), "test": other}) == {}
