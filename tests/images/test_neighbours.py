"""Distances to the nearest images are exact, whatever the order, the parts and the shape of the images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.core import dataset
from lenet5.images import neighbours
from tests.conftest import Arrays


def brute_force(
    images: NDArray[np.uint8], others: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Compute the distances of 28 × 28 images one pair at a time, with integers."""

    def levels(values: NDArray[np.uint8]) -> NDArray[np.int64]:
        blocks = values.reshape(len(values), 7, 4, 7, 4).sum(axis=(2, 4), dtype=np.int64)
        return (blocks * 63 // (16 * 255)).reshape(len(values), 49)

    searched = levels(others)
    squares = np.stack([((searched - one) ** 2).sum(axis=1) for one in levels(images)])
    nearest = [squares[:, labels == digit].min(axis=1) for digit in range(10)]
    return np.sqrt(np.stack(nearest, axis=1).astype(np.float32))


@pytest.mark.parametrize("rows", [3, 512])
def test_distances_are_exact(digits: Arrays, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    images, others, labels = digits["test_images"][:40], digits["train_images"], digits["train_labels"]
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    monkeypatch.setattr(dataset, "CHUNK", 17)
    order = np.random.default_rng(0).permutation(len(others))
    found = neighbours.nearest_by_class(images, others[order], labels[order], 10)
    np.testing.assert_array_equal(found, brute_force(images, others, labels))


def test_the_largest_distance_is_exact() -> None:
    """All pixels differ by the whole range: the largest integers that the products reach."""
    dark, bright = np.zeros((1, 28, 28), np.uint8), np.full((1, 28, 28), 255, np.uint8)
    both = np.concatenate([dark, bright])
    found = neighbours.nearest_by_class(both, both, np.array([0, 1], np.uint8), 2)
    np.testing.assert_array_equal(found, np.array([[0, 7 * 63], [7 * 63, 0]], np.float32))
    assert 2 * (7 * 63) ** 2 + (7 * 63) ** 2 < 2**24


def test_a_copy_has_the_distance_0_and_a_missing_class_is_infinitely_far(digits: Arrays) -> None:
    images, labels = digits["train_images"][:200], digits["train_labels"][:200]
    kept = labels != 3
    found = neighbours.nearest_by_class(images[:50], images[kept], labels[kept], 10)
    own = found[np.arange(50), labels[:50]]
    np.testing.assert_array_equal(own, np.where(labels[:50] == 3, np.inf, 0))
    assert np.isinf(found[:, 3]).all()
    assert (found[labels[:50] == 3].min(axis=1) > 0).all()


def test_of_too_many_images_an_even_sample_is_searched(
    digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits["train_images"][:101], digits["train_labels"][:101]
    monkeypatch.setattr(neighbours, "MOST_OTHERS", 51)
    found = neighbours.nearest_by_class(images[:1], images, labels, 10)
    every_second = neighbours.nearest_by_class(images[:1], images[::2], labels[::2], 10)
    np.testing.assert_array_equal(found, every_second)
    monkeypatch.undo()
    assert (neighbours.nearest_by_class(images[:1], images, labels, 10) < found).any()


@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (5, 9)])
def test_other_shapes_are_compared_too(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    found = neighbours.nearest_by_class(images, images, np.zeros(6, np.uint8), 1)
    np.testing.assert_array_equal(found, np.zeros((6, 1), np.float32))
    assert neighbours.nearest_by_class(images[:1], images[1:], np.zeros(5, np.uint8), 1)[0, 0] > 0


def test_distances_of_rgb_images_are_over_all_channels(digits: Arrays) -> None:
    images, others, labels = digits["test_images"][:20], digits["train_images"][:300], digits["train_labels"]
    one = neighbours.nearest_by_class(images, others, labels[:300], 10).astype(np.float64)
    colours = [np.repeat(each[..., np.newaxis], 3, axis=-1) for each in (images, others)]
    three = neighbours.nearest_by_class(colours[0], colours[1], labels[:300], 10)
    np.testing.assert_array_equal(three, np.sqrt(3 * (one**2).round()).astype(np.float32))
    red, blue = (np.zeros((1, 8, 8, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    assert neighbours.nearest_by_class(red, blue, np.zeros(1, np.uint16), 1)[0, 0] > 0


def test_the_largest_distance_of_rgb_images_is_exact() -> None:
    dark, bright = np.zeros((1, 56, 56, 3), np.uint8), np.full((1, 56, 56, 3), 255, np.uint8)
    found = neighbours.nearest_by_class(dark, bright, np.zeros(1, np.uint8), 1)
    assert found[0, 0] == np.sqrt(np.float32(3 * (7 * 63) ** 2))
    assert 3 * 3 * (7 * 63) ** 2 < 2**24  # every partial sum is an integer that float32 holds
