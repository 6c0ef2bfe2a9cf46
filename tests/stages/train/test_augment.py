"""Distortions change images within their limits."""

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from lenet5.core.dataset import Split
from lenet5.stages.train.augment import augment, draw_amounts
from lenet5.stages.train.params import Distortion

NONE = Distortion(shift=0, rotation=0, scale=0)


def distorted(images: np.ndarray, limits: Distortion) -> np.ndarray:
    return augment(images, draw_amounts(limits, len(images), np.random.default_rng(5)))


@pytest.fixture
def bar() -> np.ndarray:
    """200 images of the same upright bar of 21 rows and 3 columns in the middle: float32 (200, 41, 41, 1)."""
    image = np.zeros((41, 41, 1), np.float32)
    image[10:31, 19:22] = 1
    return np.repeat(image[np.newaxis], 200, axis=0)


def test_limits_of_0_return_the_same_array(train: Split) -> None:
    assert distorted(train.images, NONE) is train.images


def test_distorted_images_keep_shape_dtype_range_and_mean(train: Split) -> None:
    done = distorted(train.images, Distortion(shift=1, rotation=10, scale=0.1))
    assert (done.shape, done.dtype) == (train.images.shape, train.images.dtype)
    assert 0 <= done.min() <= done.max() <= 1
    assert done.mean() == pytest.approx(train.images.mean(), rel=0.05)


def test_shift_moves_by_up_to_the_limit(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"shift": 3}))
    moved = np.array([center_of_mass(image[..., 0]) for image in done]) - 20
    assert np.abs(moved).max() == pytest.approx(3, abs=0.1)
    assert np.abs(moved.mean(axis=0)).max() < 0.5
    np.testing.assert_allclose(done.sum(axis=(1, 2, 3)), 63, rtol=1e-4)


def test_rotation_is_around_the_centre_and_up_to_the_limit(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"rotation": 30}))
    rows, columns = np.indices((41, 41)) - 20
    weight = done[..., 0] / done.sum(axis=(1, 2, 3))[:, None, None]
    slant = np.degrees(np.arctan2((weight * rows * columns).sum((1, 2)), (weight * rows**2).sum((1, 2))))
    assert np.abs(slant).max() == pytest.approx(30, abs=1)
    assert np.abs((weight * rows).sum((1, 2))).max() < 1e-3


def test_scale_changes_height_and_width_independently(bar: np.ndarray) -> None:
    done = distorted(bar, NONE.model_copy(update={"scale": 0.2}))[..., 0]
    height, width = done.max(axis=2).sum(axis=1), done.max(axis=1).sum(axis=1)
    assert height.min() == pytest.approx(21 / 1.2, abs=0.7)
    assert height.max() == pytest.approx(21 / 0.8, abs=0.7)
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.2
