"""Identical images are found, and different images are told apart."""

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.stages.validate.duplicates import digests, first_match


def test_first_match_is_the_first_identical_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 3)
    random = np.random.default_rng(0)
    reference = random.integers(0, 256, (8, 28, 28), np.uint8)
    reference[5] = reference[2]
    images = np.concatenate([random.integers(0, 256, (3, 28, 28), np.uint8), reference[[5, 7, 0]]])
    first = first_match(digests(images), digests(reference))
    assert first.isna().tolist() == [True] * 3 + [False] * 3
    assert first.dropna().tolist() == [2, 7, 0]
    assert first_match(digests(reference), digests(reference)).tolist() == [0, 1, 2, 3, 4, 2, 6, 7]


def test_images_that_differ_in_one_pixel_have_different_digests() -> None:
    images = np.zeros((785, 28, 28), np.uint8)
    images.reshape(785, 784)[np.arange(784), np.arange(784)] = 1
    assert len(np.unique(digests(images))) == 785


@pytest.mark.parametrize(("reference", "images"), [(0, 0), (0, 3), (3, 0)])
def test_without_images_or_without_reference_there_is_no_match(reference: int, images: int) -> None:
    first = first_match(np.arange(5, 5 + images, dtype=np.uint64), np.arange(reference, dtype=np.uint64))
    assert len(first) == images
    assert first.isna().all()
