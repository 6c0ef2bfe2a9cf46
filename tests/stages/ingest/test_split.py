"""A test split is taken from each class, by the pixels of the images and the seed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet5.stages.ingest.split import chosen_for_test


def data(count: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 8, 8), np.uint8), random.integers(0, classes, count).astype(
        np.uint8
    )


@given(st.integers(2, 300), st.integers(1, 12), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_every_class_has_its_share(count: int, classes: int, share: float, seed: int) -> None:
    images, labels = data(count, classes)
    chosen = chosen_for_test(images, labels, share=share, seed=seed)
    for label in np.unique(labels):
        members = (labels == label).sum()
        expected = min(max(1, round(share * members)), members - 1)
        assert chosen[labels == label].sum() == expected


def test_the_order_of_the_images_does_not_matter() -> None:
    images, labels = data(500, 5)
    chosen = chosen_for_test(images, labels, share=0.2, seed=7)
    order = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(
        chosen_for_test(images[order], labels[order], share=0.2, seed=7), chosen[order]
    )


def test_another_seed_gives_another_split() -> None:
    images, labels = data(500, 5)
    first, second = (chosen_for_test(images, labels, share=0.2, seed=seed) for seed in (1, 2))
    assert first.sum() == second.sum()
    assert (first & second).sum() < 0.6 * first.sum()


def test_copies_of_an_image_fall_on_one_side() -> None:
    images, labels = data(200, 4)
    copies, of = np.concatenate([images, images[:150]]), np.concatenate([labels, labels[:150]])
    chosen = chosen_for_test(copies, of, share=0.25, seed=3)
    np.testing.assert_array_equal(chosen[200:], chosen[:150])
    assert 0 < chosen.sum() < 0.35 * len(of)


def test_most_images_keep_their_side_when_the_source_grows() -> None:
    images, labels = data(1100, 4)
    before = chosen_for_test(images[:1000], labels[:1000], share=0.2, seed=3)
    after = chosen_for_test(images, labels, share=0.2, seed=3)[:1000]
    assert (before != after).mean() < 0.03


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_class_of_one_image_stays_in_train(share: float) -> None:
    images, labels = data(3, 1)
    labels[:] = [0, 1, 1]
    chosen = chosen_for_test(images, labels, share=share, seed=0)
    assert not chosen[0]
    assert chosen[1:].sum() == 1
