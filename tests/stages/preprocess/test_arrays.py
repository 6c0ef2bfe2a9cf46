"""Splitting, padding, rescaling and one-hot encoding give the right shapes, dtypes and values."""

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.core.dataset import Split, rescale
from lenet5.core.errors import DataError, UsageError
from lenet5.stages.preprocess.stage import encode, encode_rows, hold_out, one_hot
from tests.conftest import Arrays


@pytest.fixture
def train(digits: Arrays) -> Split:
    return Split(digits["train_images"][:1000], digits["train_labels"][:1000])


@pytest.mark.parametrize(("padding", "side"), [(0, 28), (2, 32), (14, 56)])
def test_shapes_and_types(train: Split, padding: int, side: int) -> None:
    encoded = encode(train, padding, 10)
    assert encoded.images.shape == (1000, side, side, 1)
    assert encoded.labels.shape == (1000, 10)
    assert encoded.images.dtype == encoded.labels.dtype == np.float32


def test_padding_is_a_border_of_zeros_around_the_image(train: Split) -> None:
    padded = encode(train, padding=2, classes=10).images
    np.testing.assert_array_equal(padded[:, 2:-2, 2:-2], encode(train, padding=0, classes=10).images)
    padded[:, 2:-2, 2:-2] = 0
    assert not padded.any()


def test_rescaled_pixels_are_0_to_1_in_the_same_order() -> None:
    every = rescale(np.arange(256, dtype=np.uint8))
    assert every.dtype == np.float32
    assert (every[0], every[255]) == (0, 1)
    assert (np.diff(every) > 0).all()
    np.testing.assert_allclose(every, np.arange(256) / 255, rtol=1e-6)


def test_one_hot_has_a_1_at_the_label_only(train: Split) -> None:
    encoded = one_hot(train.labels, 10)
    np.testing.assert_array_equal(encoded.argmax(axis=1), train.labels)
    np.testing.assert_array_equal(np.sort(encoded, axis=1), np.tile([0] * 9 + [1], (1000, 1)))


@pytest.mark.parametrize("amount", [0, 1, 300, 601])
def test_encoding_in_parts_equals_encoding_at_once(
    train: Split, amount: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 300)
    rows = np.random.default_rng(0).permutation(1000)[:amount]
    parts = list(encode_rows(train, rows, padding=2, classes=10))
    assert [len(part.images) for part in parts] == {0: [0], 1: [1], 300: [300], 601: [300, 300, 1]}[amount]
    whole = encode(Split(train.images[rows], train.labels[rows]), padding=2, classes=10)
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), whole.labels)


def test_label_10_is_an_error() -> None:
    with pytest.raises(IndexError):
        one_hot(np.array([10], np.uint8), 10)


def test_split_is_disjoint_complete_and_in_stored_order(train: Split) -> None:
    train_rows, validation_rows = hold_out(train.labels, 200, seed=1)
    assert len(validation_rows) == 200
    np.testing.assert_array_equal(np.sort(np.concatenate([train_rows, validation_rows])), np.arange(1000))
    for part in (train_rows, validation_rows):
        assert (np.diff(part) > 0).all()


def test_split_is_stratified(train: Split) -> None:
    _, validation_rows = hold_out(train.labels, 200, seed=1)
    shares = np.bincount(train.labels, minlength=10) / 5
    assert np.abs(np.bincount(train.labels[validation_rows], minlength=10) - shares).max() <= 1


def test_seed_decides_the_split(train: Split) -> None:
    one, same, other = (hold_out(train.labels, 200, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert set(one) != set(other)


@pytest.mark.parametrize("images", [10, 990])
def test_smallest_and_largest_validation_split(train: Split, images: int) -> None:
    train_rows, validation_rows = hold_out(train.labels, images, seed=1)
    assert (len(train_rows), len(validation_rows)) == (1000 - images, images)


@pytest.mark.parametrize("images", [9, 991, 1000, 5000])
def test_too_few_or_too_many_validation_images_are_an_error(train: Split, images: int) -> None:
    with pytest.raises(UsageError, match=r"preprocess\.validation_images from 10 to 990") as refused:
        hold_out(train.labels, images, seed=1)
    assert f"found:    {images}" in str(refused.value)


@pytest.mark.parametrize("padding", [0, 3])
def test_rgb_images_keep_their_channels_and_labels_have_as_many_places_as_classes(padding: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    labels = np.array([0, 299, 256, 1, 2, 3], np.uint16)
    encoded = encode(Split(images, labels), padding, classes=300)
    assert encoded.images.shape == (6, 16 + 2 * padding, 16 + 2 * padding, 3)
    for channel in range(3):
        grey = encode(Split(images[..., channel], labels), padding, classes=300)
        np.testing.assert_array_equal(encoded.images[..., channel], grey.images[..., 0])
    assert encoded.labels.shape == (6, 300)
    np.testing.assert_array_equal(encoded.labels.argmax(axis=1), labels)


def test_class_with_a_single_image_is_an_error_that_names_it() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2], np.uint8)
    expected = r"at least 2 train images of each class(.|\n)*1 image of 1 of 3 classes: 'bag'"
    with pytest.raises(DataError, match=expected):
        hold_out(labels, 3, seed=1, classes=("shirt", "bag", "boot"))
