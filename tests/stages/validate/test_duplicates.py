"""Which image repeats which."""

import numpy as np
import pytest

from lenet5.core import dataset
from lenet5.stages.validate.duplicates import digests, first_among


def test_the_first_equal_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 3)
    random = np.random.default_rng(0)
    known = random.integers(0, 256, (8, 28, 28), np.uint8)
    known[5] = known[2]
    wanted = np.concatenate([random.integers(0, 256, (3, 28, 28), np.uint8), known[[5, 7, 0]]])
    first = first_among(digests(known), digests(wanted))
    assert first.isna().tolist() == [True] * 3 + [False] * 3
    assert first.dropna().tolist() == [2, 7, 0]
    assert first_among(digests(known), digests(known)).tolist() == [0, 1, 2, 3, 4, 2, 6, 7]


def test_one_pixel_makes_another_image() -> None:
    images = np.zeros((785, 28, 28), np.uint8)
    images.reshape(785, 784)[np.arange(784), np.arange(784)] = 1
    assert len(np.unique(digests(images))) == 785


@pytest.mark.parametrize(("known", "wanted"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_repeats_nothing(known: int, wanted: int) -> None:
    found = first_among(np.arange(known, dtype=np.uint64), np.arange(5, 5 + wanted, dtype=np.uint64))
    assert len(found) == wanted
    assert found.isna().all()
